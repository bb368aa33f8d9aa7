#pragma once

#include <string>

#include "client/failure.h"

namespace detour::client {

/// What to do about `failure`, in one or two sentences for whoever runs the relay or the network.
/// Empty when its message says all there is.
[[nodiscard]] std::string advice(const Failure& failure);

}  // namespace detour::client
