#pragma once

#include <openssl/core.h>

namespace detour::net {

/// One function of a provider's table (provider(7)): OpenSSL takes them all as `void (*)()` and
/// calls each with the type that `id` stands for.
template <typename Function>
[[nodiscard]] OSSL_DISPATCH dispatch_entry(int id, Function* function) {
  return {id, reinterpret_cast<void (*)()>(function)};
}

}  // namespace detour::net
