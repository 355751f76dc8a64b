#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "igpt/fields.h"

namespace igpt::formats {

/// A JSON value to be written, the members of its objects in the order in which they are added.
using OrderedJson = nlohmann::ordered_json;

/// `value` on one line. Numbers have the fewest digits that keep their value; numbers that are not finite become null,
/// bytes that are not UTF-8 U+FFFD.
std::string json_text(const OrderedJson& value);

OrderedJson to_json(const FieldValue& value);

}  // namespace igpt::formats
