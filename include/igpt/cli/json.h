#pragma once

#include "igpt/formats/json_object.h"

namespace igpt::cli {

using formats::JsonObject;  // what --json prints

}  // namespace igpt::cli
