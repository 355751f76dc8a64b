#include "igpt/formats/json_text.h"

namespace igpt::formats {
std::string json_text(const OrderedJson& value) {
  return value.dump(/*indent=*/-1, /*indent_char=*/' ', /*ensure_ascii=*/false, OrderedJson::error_handler_t::replace);
}

OrderedJson to_json(const FieldValue& value) {
  return std::visit(
      [](const auto& v) -> OrderedJson {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>)
          return nullptr;
        else
          return v;
      },
      value);
}

}  // namespace igpt::formats
