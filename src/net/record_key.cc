#include "net/record_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/check.h"
#ifdef DETOUR_HAS_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

namespace detour::net {

namespace {

constexpr std::size_t kKeySizeMax = 32;

/// The bytes of a key.
class RawKey {
 public:
  explicit RawKey(std::span<const std::uint8_t> bytes) : size_(bytes.size()) {
    DETOUR_CHECK(bytes.size() == 16 || bytes.size() == 32);
    std::ranges::copy(bytes, bytes_.begin());
  }
  ~RawKey() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }
  RawKey(const RawKey&) = delete;
  RawKey& operator=(const RawKey&) = delete;

  [[nodiscard]] const std::uint8_t* data() const { return bytes_.data(); }
  [[nodiscard]] bool is_256() const { return size_ == 32; }

 private:
  std::array<std::uint8_t, kKeySizeMax> bytes_{};
  std::size_t size_;
};

/// Decides when a key is worth its expanded form: what a login needs is less.
class Warmth {
 public:
  [[nodiscard]] bool use() {
    if (uses_ >= kColdUses) return true;
    ++uses_;
    return false;
  }
  void reset() { uses_ = 0; }

 private:
  static constexpr std::uint8_t kColdUses = 16;
  std::uint8_t uses_ = 0;
};

// --- OpenSSL

struct CipherContextDeleter {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, CipherContextDeleter>;

/// Looked up once: a lookup costs as much as a small record.
const EVP_CIPHER* cipher_of(bool is_256) {
  static EVP_CIPHER* const aes_128 = EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr);
  static EVP_CIPHER* const aes_256 = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  return is_256 ? aes_256 : aes_128;
}

class EvpRecordKey final : public RecordKey {
 public:
  explicit EvpRecordKey(std::span<const std::uint8_t> key) : key_(key) {}

  bool seal(const Nonce& nonce, std::span<const std::uint8_t> header,
            std::span<const std::uint8_t> content, std::uint8_t type, std::uint8_t* out) override {
    const ContextUse use(*this, /*encrypt=*/true);
    int size = 0;
    return use.context != nullptr &&
           EVP_EncryptInit_ex(use.context, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
           EVP_EncryptUpdate(use.context, nullptr, &size, header.data(), int_size(header)) == 1 &&
           EVP_EncryptUpdate(use.context, out, &size, content.data(), int_size(content)) == 1 &&
           EVP_EncryptUpdate(use.context, out + content.size(), &size, &type, 1) == 1 &&
           EVP_EncryptFinal_ex(use.context, out + content.size() + 1, &size) == 1 &&
           EVP_CIPHER_CTX_ctrl(use.context, EVP_CTRL_AEAD_GET_TAG, kAeadTagSize,
                               out + content.size() + 1) == 1;
  }

  bool open(const Nonce& nonce, std::span<const std::uint8_t> header,
            std::span<const std::uint8_t> sealed, std::uint8_t* out) override {
    const ContextUse use(*this, /*encrypt=*/false);
    const auto body = sealed.first(sealed.size() - kAeadTagSize);
    std::array<std::uint8_t, kAeadTagSize> tag;
    std::memcpy(tag.data(), sealed.data() + body.size(), tag.size());
    int size = 0;
    return use.context != nullptr &&
           EVP_DecryptInit_ex(use.context, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
           EVP_DecryptUpdate(use.context, nullptr, &size, header.data(), int_size(header)) == 1 &&
           EVP_DecryptUpdate(use.context, out, &size, body.data(), int_size(body)) == 1 &&
           EVP_CIPHER_CTX_ctrl(use.context, EVP_CTRL_AEAD_SET_TAG, kAeadTagSize, tag.data()) == 1 &&
           EVP_DecryptFinal_ex(use.context, out + body.size(), &size) == 1;
  }

  void rest() override {
    own_.reset();
    warmth_.reset();
  }

 private:
  /// The key's own context, or while it is cold one of the thread's, with the key put in and taken
  /// out again.
  struct ContextUse {
    ContextUse(EvpRecordKey& key, bool encrypt) {
      if (!key.own_ && key.warmth_.use()) key.own_ = make_context(key.key_, encrypt);
      context = key.own_.get();
      if (context != nullptr) return;
      thread_local const CipherContext lent_context(EVP_CIPHER_CTX_new());
      if (lent_context && set_key(lent_context.get(), key.key_, encrypt))
        context = lent = lent_context.get();
    }
    ~ContextUse() {
      if (lent != nullptr) EVP_CIPHER_CTX_reset(lent);
    }
    ContextUse(const ContextUse&) = delete;
    ContextUse& operator=(const ContextUse&) = delete;

    EVP_CIPHER_CTX* context = nullptr;
    EVP_CIPHER_CTX* lent = nullptr;
  };

  static int int_size(std::span<const std::uint8_t> bytes) {
    return static_cast<int>(bytes.size());
  }

  static bool set_key(EVP_CIPHER_CTX* context, const RawKey& key, bool encrypt) {
    return EVP_CipherInit_ex(context, cipher_of(key.is_256()), nullptr, key.data(), nullptr,
                             encrypt ? 1 : 0) == 1;
  }

  static CipherContext make_context(const RawKey& key, bool encrypt) {
    CipherContext context(EVP_CIPHER_CTX_new());
    if (context && !set_key(context.get(), key, encrypt)) context.reset();
    return context;
  }

  const RawKey key_;
  CipherContext own_;
  Warmth warmth_;
};

// --- Intel's multi-buffer library

#ifdef DETOUR_HAS_IPSEC_MB

/// The functions of one key size for this CPU.
struct GcmFunctions {
  aes_gcm_pre_t expand = nullptr;
  aes_gcm_init_t init = nullptr;
  aes_gcm_enc_dec_update_t encrypt = nullptr;
  aes_gcm_enc_dec_finalize_t finish_encrypt = nullptr;
  aes_gcm_enc_dec_t decrypt = nullptr;
};

struct IpsecMb {
  GcmFunctions aes_128;
  GcmFunctions aes_256;
};

/// Nothing where the CPU lacks what makes it faster than OpenSSL.
const std::optional<IpsecMb>& ipsec_mb() {
  static const std::optional<IpsecMb> library = []() -> std::optional<IpsecMb> {
    IMB_MGR* const manager = alloc_mb_mgr(0);
    if (manager == nullptr) return std::nullopt;
    IMB_ARCH arch = IMB_ARCH_NONE;
    init_mb_mgr_auto(manager, &arch);
    std::optional<IpsecMb> found;
    // Version 2 knows no AVX without AVX2 any more.
    if (imb_get_errno(manager) == 0 && arch > IMB_ARCH_SSE)
      found = IpsecMb{.aes_128 = {.expand = manager->gcm128_pre,
                                  .init = manager->gcm128_init,
                                  .encrypt = manager->gcm128_enc_update,
                                  .finish_encrypt = manager->gcm128_enc_finalize,
                                  .decrypt = manager->gcm128_dec},
                      .aes_256 = {.expand = manager->gcm256_pre,
                                  .init = manager->gcm256_init,
                                  .encrypt = manager->gcm256_enc_update,
                                  .finish_encrypt = manager->gcm256_enc_finalize,
                                  .decrypt = manager->gcm256_dec}};
    free_mb_mgr(manager);
    return found;
  }();
  return library;
}

/// Aligned as the library wants it; its header only says so when LINUX is defined.
struct alignas(64) ExpandedKey : gcm_key_data {
  ExpandedKey() = default;
  ~ExpandedKey() { OPENSSL_cleanse(this, sizeof *this); }
  ExpandedKey(const ExpandedKey&) = delete;
  ExpandedKey& operator=(const ExpandedKey&) = delete;
};

class IpsecMbRecordKey final : public RecordKey {
 public:
  explicit IpsecMbRecordKey(std::span<const std::uint8_t> key)
      : key_(key), functions_(key_.is_256() ? ipsec_mb()->aes_256 : ipsec_mb()->aes_128) {}

  bool seal(const Nonce& nonce, std::span<const std::uint8_t> header,
            std::span<const std::uint8_t> content, std::uint8_t type, std::uint8_t* out) override {
    const KeyUse use(*this);
    const gcm_key_data* const key = use.key;
    alignas(16) gcm_context_data context;
    functions_.init(key, &context, nonce.data(), header.data(), header.size());
    functions_.encrypt(key, &context, out, content.data(), content.size());
    functions_.encrypt(key, &context, out + content.size(), &type, 1);
    functions_.finish_encrypt(key, &context, out + content.size() + 1, kAeadTagSize);
    return true;
  }

  bool open(const Nonce& nonce, std::span<const std::uint8_t> header,
            std::span<const std::uint8_t> sealed, std::uint8_t* out) override {
    const std::size_t size = sealed.size() - kAeadTagSize;
    const KeyUse use(*this);
    alignas(16) gcm_context_data context;
    std::array<std::uint8_t, kAeadTagSize> tag;
    functions_.decrypt(use.key, &context, out, sealed.data(), size, nonce.data(), header.data(),
                       header.size(), tag.data(), tag.size());
    return CRYPTO_memcmp(tag.data(), sealed.data() + size, tag.size()) == 0;
  }

  void rest() override {
    own_.reset();
    warmth_.reset();
  }

 private:
  /// The key's own expanded form, or while it is cold one on the stack.
  struct KeyUse {
    explicit KeyUse(IpsecMbRecordKey& owner) {
      if (!owner.own_ && owner.warmth_.use()) {
        owner.own_ = std::make_unique<ExpandedKey>();
        owner.functions_.expand(owner.key_.data(), owner.own_.get());
      }
      key = owner.own_.get();
      if (key != nullptr) return;
      owner.functions_.expand(owner.key_.data(), &lent.emplace());
      key = &*lent;
    }
    KeyUse(const KeyUse&) = delete;
    KeyUse& operator=(const KeyUse&) = delete;

    const gcm_key_data* key = nullptr;
    std::optional<ExpandedKey> lent;
  };

  const RawKey key_;
  const GcmFunctions& functions_;
  std::unique_ptr<ExpandedKey> own_;
  Warmth warmth_;
};

#endif

}  // namespace

bool RecordKey::has_backend(Backend backend) {
#ifdef DETOUR_HAS_IPSEC_MB
  if (backend == Backend::kIpsecMb) return ipsec_mb().has_value();
#endif
  return backend == Backend::kEvp;
}

std::string_view RecordKey::name_of(Backend backend) {
  return backend == Backend::kIpsecMb ? "ipsec-mb" : "evp";
}

RecordKey::Backend RecordKey::best_backend() {
  return has_backend(Backend::kIpsecMb) ? Backend::kIpsecMb : Backend::kEvp;
}

std::unique_ptr<RecordKey> RecordKey::make(std::span<const std::uint8_t> key, Backend backend) {
  if (key.size() != 16 && key.size() != 32) return nullptr;
#ifdef DETOUR_HAS_IPSEC_MB
  if (backend == Backend::kIpsecMb && has_backend(backend))
    return std::make_unique<IpsecMbRecordKey>(key);
#endif
  if (backend == Backend::kEvp) return std::make_unique<EvpRecordKey>(key);
  return nullptr;
}

}  // namespace detour::net
