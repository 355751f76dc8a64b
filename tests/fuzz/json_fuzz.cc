#include "igpt/formats/json.h"

#include "fuzz.h"
#include "igpt/formats/utf8.h"

using namespace igpt::formats;

namespace {

// Asks every value for everything.
void walk(const Json& value) {
  using igpt::fuzz::succeeds_or_refuses;
  succeeds_or_refuses([&] { value.boolean(); });
  succeeds_or_refuses([&] { value.whole(igpt::at_least(0)); });
  succeeds_or_refuses([&] { value.number(); });
  succeeds_or_refuses([&] { value.wholes(); });
  succeeds_or_refuses([&] { value.numbers(); });
  succeeds_or_refuses([&] { value["a"]; });
  succeeds_or_refuses([&] { value.find("a"); });
  if (value.kind() == Json::Kind::text && !is_utf8(value.text())) std::abort();
  if (value.name().size() > 500) return;  // the names of what lies deeper would take the memory
  if (value.kind() == Json::Kind::list)
    for (const Json& item : value.items()) walk(item);
  if (value.kind() == Json::Kind::object)
    for (const auto& [key, member] : value.members()) {
      if (!value.find(key) && member.kind() != Json::Kind::null) std::abort();
      walk(member);
    }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto text = igpt::fuzz::text_of(data, size);
  size_t given = 0;
  bool is_object = false;
  igpt::fuzz::succeeds_or_refuses([&] {
    for_each_json_member(text, "x.json", {}, [&](const auto&, const auto&) { ++given; });
    is_object = true;
  });
  igpt::fuzz::succeeds_or_refuses([&] {
    const Json root = parse_json(text, "x.json");
    const bool agree = root.kind() == Json::Kind::object ? is_object && root.members().size() == given : !is_object;
    if (!agree) std::abort();
    walk(root);
  });
  return 0;
}
