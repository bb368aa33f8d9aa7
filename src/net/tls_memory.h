#pragma once

namespace detour::net {

/// Gives OpenSSL an allocator that keeps what was freed on shelves of the thread.
///
/// OpenSSL gets and frees a 17 KiB buffer for each record that it opens or seals when idle
/// connections are to hold none (SSL_MODE_RELEASE_BUFFERS), a few notes of 40 bytes beside it, and
/// hundreds of small blocks in a handshake. From the heap that costs more than it should; from a
/// thread's own shelf it is a push and a pop, and the data path does not allocate.
///
/// Call before anything uses OpenSSL. False when it was too late: everything works then, only
/// slower.
[[nodiscard]] bool install_tls_memory();

}  // namespace detour::net
