#pragma once

// TLS by OpenSSL, for sockets that do not block.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>

struct ssl_ctx_st;
struct ssl_st;

namespace hone::data::service {

class TlsContext {
 public:
  /// TLS 1.2 and later. Throws InputError when a file cannot be used or the key does not fit.
  TlsContext(const std::filesystem::path& certificate, const std::filesystem::path& key);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  /// Whether the certificate is for this host name or address.
  bool covers(const std::string& host) const;
  ssl_ctx_st* get() const { return context_; }

 private:
  ssl_ctx_st* context_ = nullptr;
};

/// Bytes over one socket, through TLS or plain; it owns the socket. Calls never block.
class ByteStream {
 public:
  enum class Result { kDone, kWantRead, kWantWrite, kClosed };
  ByteStream(int socket, const TlsContext* tls);
  ~ByteStream();
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  int socket() const { return socket_; }
  /// kDone when the handshake is over (at once without TLS).
  Result handshake();
  Result read(char* buffer, size_t size, size_t* got);
  Result write(const char* bytes, size_t size, size_t* put);
  /// Says goodbye; what the other side still sends is not waited for.
  void shut_down();

 private:
  int socket_;
  ssl_st* ssl_ = nullptr;
};

}  // namespace hone::data::service
