#include "net/tls_provider.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>

#include <optional>
#include <string>
#include <string_view>

#include "net/openssl_dispatch.h"
#include "net/x25519_provider.h"

namespace detour::net::tls13 {

namespace {

constexpr const char* kProvider = "detour";
constexpr const char* kPreferProvider = "?provider=detour";
constexpr const char* kProviderProperty = "provider=detour";
constexpr std::string_view kPrefix = "tls13 ";

thread_local TrafficSecrets* captured = nullptr;

using Bytes = std::span<const std::uint8_t>;

Bytes octets(const OSSL_PARAM& param) {
  const void* data = nullptr;
  std::size_t size = 0;
  if (OSSL_PARAM_get_octet_string_ptr(&param, &data, &size) != 1) return {};
  return {static_cast<const std::uint8_t*>(data), size};
}

std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::optional<Hash> digest_of(const OSSL_PARAM& param) {
  const char* name = nullptr;
  if (OSSL_PARAM_get_utf8_string_ptr(&param, &name) != 1) return std::nullopt;
  const std::string_view digest(name);
  if (digest == "SHA256" || digest == "SHA2-256") return Hash::kSha256;
  if (digest == "SHA384" || digest == "SHA2-384") return Hash::kSha384;
  return std::nullopt;
}

/// What libssl asks for (EVP_KDF-TLS13_KDF(7)); what it does not give is empty.
struct Request {
  std::optional<Hash> hash{};
  int mode = -1;
  Bytes key{};
  Bytes salt{};
  Bytes prefix{};
  Bytes label{};
  Bytes data{};
};

/// In one pass: a handshake asks a dozen times, and each name that is looked for is compared with
/// all.
Request read_request(const OSSL_PARAM params[]) {
  Request request;
  for (const OSSL_PARAM* param = params; param->key != nullptr; ++param) {
    const std::string_view name(param->key);
    if (name == OSSL_KDF_PARAM_DIGEST) request.hash = digest_of(*param);
    if (name == OSSL_KDF_PARAM_MODE && OSSL_PARAM_get_int(param, &request.mode) != 1)
      request.mode = -1;
    if (name == OSSL_KDF_PARAM_KEY) request.key = octets(*param);
    if (name == OSSL_KDF_PARAM_SALT) request.salt = octets(*param);
    if (name == OSSL_KDF_PARAM_PREFIX) request.prefix = octets(*param);
    if (name == OSSL_KDF_PARAM_LABEL) request.label = octets(*param);
    if (name == OSSL_KDF_PARAM_DATA) request.data = octets(*param);
  }
  return request;
}

void capture(std::string_view label, Bytes secret) {
  if (captured == nullptr || secret.size() > kHashSizeMax) return;
  if (label == "c ap traffic") captured->client = Secret(secret);
  if (label == "s ap traffic") captured->server = Secret(secret);
}

/// The next secret of the schedule from the previous one and new key material (RFC 8446 section
/// 7.1): HKDF-Extract(Derive-Secret(previous, label, ""), material). Without a previous one the
/// salt, without material the key is zeros.
bool extract(const Request& request, std::span<std::uint8_t> out) {
  constexpr std::array<std::uint8_t, kHashSizeMax> kZeros{};
  const Hash hash = *request.hash;
  const std::size_t size = hash_size(hash);
  if (out.size() != size) return false;
  const Bytes material = request.key.empty() ? Bytes(kZeros).first(size) : request.key;

  std::array<std::uint8_t, kHashSizeMax> salt{};
  const std::span derived(salt.data(), size);
  if (!request.salt.empty() &&
      !expand_label(hash, request.salt, as_text(request.label), empty_hash(hash), derived))
    return false;
  hmac(hash, derived, material, out);
  OPENSSL_cleanse(salt.data(), salt.size());
  return true;
}

int derive(void* /*context*/, unsigned char* key, std::size_t key_size, const OSSL_PARAM params[]) {
  const Request request = read_request(params);
  if (!request.hash || as_text(request.prefix) != kPrefix) return 0;
  const std::span out(key, key_size);
  if (request.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY) return extract(request, out) ? 1 : 0;
  if (request.mode != EVP_KDF_HKDF_MODE_EXPAND_ONLY) return 0;

  const std::string_view label = as_text(request.label);
  if (!expand_label(*request.hash, request.key, label, request.data, out)) return 0;
  capture(label, out);
  return 1;
}

// All that libssl gives comes with derive(), so there is nothing to keep between calls: the
// provider's own context stands in for that of a derivation.
void* new_context(void* provider_context) {
  return provider_context;
}
void free_context(void* /*context*/) {}

int set_no_params(void* /*context*/, const OSSL_PARAM params[]) {
  return params == nullptr || params->key == nullptr ? 1 : 0;
}

const OSSL_PARAM* settable(void* /*context*/, void* /*provider_context*/) {
  static constexpr OSSL_PARAM kNone[] = {OSSL_PARAM_END};
  return kNone;
}

const OSSL_ALGORITHM* query(void* /*provider_context*/, int operation, int* no_store) {
  static const OSSL_DISPATCH functions[] = {
      dispatch_entry(OSSL_FUNC_KDF_NEWCTX, new_context),
      dispatch_entry(OSSL_FUNC_KDF_FREECTX, free_context),
      dispatch_entry(OSSL_FUNC_KDF_DERIVE, derive),
      dispatch_entry(OSSL_FUNC_KDF_SET_CTX_PARAMS, set_no_params),
      dispatch_entry(OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS, settable),
      {0, nullptr},
  };
  static const OSSL_ALGORITHM algorithms[] = {
      {OSSL_KDF_NAME_TLS1_3_KDF, kProviderProperty, functions, "TLS 1.3 key schedule"},
      {nullptr, nullptr, nullptr, nullptr},
  };
  *no_store = 0;
  switch (operation) {
    case OSSL_OP_KDF:
      return algorithms;
    case OSSL_OP_KEYMGMT:
      return x25519_key_management(kProviderProperty);
    case OSSL_OP_KEYEXCH:
      return x25519_key_exchange(kProviderProperty);
    default:
      return nullptr;
  }
}

/// A handshake only uses a group that the provider of its keys announces.
int get_capabilities(void* /*provider_context*/, const char* capability, OSSL_CALLBACK* callback,
                     void* argument) {
  if (std::string_view(capability) != "TLS-GROUP") return 0;
  std::string name = "x25519";
  std::string algorithm = "X25519";
  unsigned int id = 29;  // RFC 8446 section 4.2.7.
  unsigned int security_bits = 128;
  int tls_min = TLS1_VERSION;
  int none = 0;
  int never = -1;
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME, name.data(), 0),
      OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL, algorithm.data(),
                                       0),
      OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_ALG, algorithm.data(), 0),
      OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_ID, &id),
      OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS, &security_bits),
      OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_TLS, &tls_min),
      OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_TLS, &none),
      OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS, &never),
      OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS, &never),
      OSSL_PARAM_construct_end(),
  };
  return callback(params, argument);
}

int initialize(const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* /*in*/,
               const OSSL_DISPATCH** out, void** provider_context) {
  static const OSSL_DISPATCH functions[] = {
      dispatch_entry(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query),
      dispatch_entry(OSSL_FUNC_PROVIDER_GET_CAPABILITIES, get_capabilities),
      {0, nullptr},
  };
  *out = functions;
  // Any address that is not null will do.
  *provider_context = const_cast<OSSL_CORE_HANDLE*>(handle);
  return 1;
}

/// Holds the providers from the first use to the end of the program. OpenSSL cleans up after that,
/// because it was there first, and would count what is still loaded as leaked.
class LoadedProviders {
 public:
  // To load one provider by name switches off that OpenSSL loads its own when it is needed.
  LoadedProviders() : default_(OSSL_PROVIDER_load(nullptr, "default")) {
    if (default_ != nullptr && OSSL_PROVIDER_add_builtin(nullptr, kProvider, initialize) == 1)
      ours_ = OSSL_PROVIDER_load(nullptr, kProvider);
  }
  ~LoadedProviders() {
    if (ours_ != nullptr) OSSL_PROVIDER_unload(ours_);
    if (default_ != nullptr) OSSL_PROVIDER_unload(default_);
  }
  LoadedProviders(const LoadedProviders&) = delete;
  LoadedProviders& operator=(const LoadedProviders&) = delete;

  [[nodiscard]] bool has_ours() const { return ours_ != nullptr; }

 private:
  OSSL_PROVIDER* default_;
  OSSL_PROVIDER* ours_ = nullptr;
};

}  // namespace

const char* install_tls_provider() {
  static const LoadedProviders loaded;
  return loaded.has_ours() ? kPreferProvider : nullptr;
}

SecretCapture::SecretCapture(TrafficSecrets& secrets) {
  captured = &secrets;
}

SecretCapture::~SecretCapture() {
  captured = nullptr;
}

}  // namespace detour::net::tls13
