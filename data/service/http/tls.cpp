#include "data/service/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "data/error.h"

namespace hone::data::service {
namespace {

std::string last_tls_error() {
  char text[256] = "no reason given";
  if (const unsigned long code = ERR_get_error(); code != 0) {
    ERR_error_string_n(code, text, sizeof text);
  }
  ERR_clear_error();
  return text;
}

}  // namespace

TlsContext::TlsContext(const std::filesystem::path& certificate, const std::filesystem::path& key) {
  context_ = SSL_CTX_new(TLS_server_method());
  if (context_ == nullptr) throw IoError("TLS", "context", "one", last_tls_error());
  SSL_CTX_set_min_proto_version(context_, TLS1_2_VERSION);
  SSL_CTX_set_options(context_, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  std::string problem;
  if (SSL_CTX_use_certificate_chain_file(context_, certificate.c_str()) != 1) {
    problem = certificate.string();
  } else if (SSL_CTX_use_PrivateKey_file(context_, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(context_) != 1) {
    problem = key.string();
  }
  if (!problem.empty()) {
    const std::string reason = last_tls_error();
    SSL_CTX_free(context_);
    throw InputError("TLS", problem, "a PEM certificate and its key", reason);
  }
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

bool TlsContext::covers(const std::string& host) const {
  X509* certificate = SSL_CTX_get0_certificate(context_);
  return X509_check_host(certificate, host.data(), host.size(), 0, nullptr) == 1 ||
         X509_check_ip_asc(certificate, host.c_str(), 0) == 1;
}

ByteStream::ByteStream(int socket, const TlsContext* tls) : socket_(socket) {
  if (tls == nullptr) return;
  ssl_ = SSL_new(tls->get());
  if (ssl_ == nullptr || SSL_set_fd(ssl_, socket) != 1) {
    SSL_free(ssl_);
    ::close(socket);
    throw IoError("TLS", "connection", "one", last_tls_error());
  }
  SSL_set_accept_state(ssl_);
}

ByteStream::~ByteStream() {
  SSL_free(ssl_);
  ::close(socket_);
}

namespace {

ByteStream::Result result_of(ssl_st* ssl, int returned) {
  const int error = SSL_get_error(ssl, returned);
  ERR_clear_error();
  if (error == SSL_ERROR_WANT_READ) return ByteStream::Result::kWantRead;
  if (error == SSL_ERROR_WANT_WRITE) return ByteStream::Result::kWantWrite;
  return ByteStream::Result::kClosed;
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

ByteStream::Result ByteStream::handshake() {
  if (ssl_ == nullptr) return Result::kDone;
  const int returned = SSL_do_handshake(ssl_);
  return returned == 1 ? Result::kDone : result_of(ssl_, returned);
}

ByteStream::Result ByteStream::read(char* buffer, size_t size, size_t* got) {
  *got = 0;
  if (ssl_ != nullptr) {
    const int returned = SSL_read_ex(ssl_, buffer, size, got);
    return returned == 1 ? Result::kDone : result_of(ssl_, returned);
  }
  const ssize_t returned = ::recv(socket_, buffer, size, 0);
  if (returned > 0) {
    *got = static_cast<size_t>(returned);
    return Result::kDone;
  }
  return returned < 0 && would_block() ? Result::kWantRead : Result::kClosed;
}

ByteStream::Result ByteStream::write(const char* bytes, size_t size, size_t* put) {
  *put = 0;
  if (ssl_ != nullptr) {
    const int returned = SSL_write_ex(ssl_, bytes, size, put);
    return returned == 1 ? Result::kDone : result_of(ssl_, returned);
  }
  const ssize_t returned = ::send(socket_, bytes, size, MSG_NOSIGNAL);
  if (returned >= 0) {
    *put = static_cast<size_t>(returned);
    return Result::kDone;
  }
  return would_block() ? Result::kWantWrite : Result::kClosed;
}

void ByteStream::shut_down() {
  if (ssl_ != nullptr) SSL_shutdown(ssl_);
  ERR_clear_error();
  ::shutdown(socket_, SHUT_WR);
}

}  // namespace hone::data::service
