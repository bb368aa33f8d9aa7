#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace detour::net {

inline constexpr std::size_t kAeadTagSize = 16;
inline constexpr std::size_t kAeadNonceSize = 12;

/// An AES-GCM key for records of TLS 1.3 in one direction (RFC 8446 section 5.2).
///
/// Owned by one direction of one connection and guarded as that is. A key that is used often keeps
/// its expanded form; a quiet one only its bytes, because clients are idle most of the time and
/// what is expanded takes a kilobyte each way. Wiped when it goes away.
class RecordKey {
 public:
  /// Who does the cipher. All give the same bytes.
  enum class Backend : std::uint8_t {
    kIpsecMb,  ///< Intel's multi-buffer library: fastest where it runs.
    kEvp,      ///< OpenSSL: everywhere.
  };
  using Nonce = std::array<std::uint8_t, kAeadNonceSize>;

  /// The fastest backend of this machine.
  [[nodiscard]] static Backend best_backend();
  [[nodiscard]] static bool has_backend(Backend backend);
  [[nodiscard]] static std::string_view name_of(Backend backend);

  /// `key` has 16 or 32 bytes. Null when the backend does not take it or memory is out.
  [[nodiscard]] static std::unique_ptr<RecordKey> make(std::span<const std::uint8_t> key,
                                                       Backend backend);
  virtual ~RecordKey() = default;

  /// Encrypts `content`, then the byte `type`, into `out`, and the tag behind: content.size() + 1 +
  /// kAeadTagSize bytes. `header` is authenticated. False when the cipher fails.
  [[nodiscard]] virtual bool seal(const Nonce& nonce, std::span<const std::uint8_t> header,
                                  std::span<const std::uint8_t> content, std::uint8_t type,
                                  std::uint8_t* out) = 0;

  /// Decrypts `sealed`, whose last kAeadTagSize bytes are the tag, into `out`: sealed.size() -
  /// kAeadTagSize bytes. False when the tag is wrong; `out` holds rubbish then.
  [[nodiscard]] virtual bool open(const Nonce& nonce, std::span<const std::uint8_t> header,
                                  std::span<const std::uint8_t> sealed, std::uint8_t* out) = 0;

  /// Lets go of the expanded form until the key is used again.
  virtual void rest() = 0;
};

}  // namespace detour::net
