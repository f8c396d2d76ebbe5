#include "data/service/http/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/service/host_names.h"
#include "data/service/http/connection.h"
#include "data/service/http/worker_pool.h"

namespace hone::data::service {
namespace {

constexpr uint64_t kListener = 0, kWake = 1, kFirstConnection = 2;
constexpr int kSweepMs = 200;

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

SocketAddress parse_address(const std::string& text, uint16_t port) {
  SocketAddress address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof *v6;
  } else {
    throw InputError("listen", "address", "an IPv4 or IPv6 address", "\"" + text + "\"");
  }
  return address;
}

std::string address_text(const sockaddr_storage& storage) {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  }
  return text;
}

[[noreturn]] void throw_socket_error(const std::string& what) {
  throw IoError("listen", what, "success", std::strerror(errno));
}

/// Each connection is a file: as many as the administrator lets this process have, less some for
/// databases and segments. Beyond that, connections are hung up on: left in the queue, they would
/// wake the waiting thread again and again, and databases could no longer be opened.
size_t most_connections() {
  constexpr rlim_t kOtherFiles = 256;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return SIZE_MAX;
  if (limit.rlim_cur != limit.rlim_max) {
    const rlim_t before = std::exchange(limit.rlim_cur, limit.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  }
  if (limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
  return std::max(limit.rlim_cur / 2, limit.rlim_cur - std::min(limit.rlim_cur, kOtherFiles));
}

}  // namespace

struct HttpServer::Impl {
  Impl(ServerOptions server_options, std::unique_ptr<TlsContext> tls_context, Admit admit_head,
       Handle handle_request)
      : options(std::move(server_options)),
        tls(std::move(tls_context)),
        admit(std::move(admit_head)),
        handle(std::move(handle_request)) {
    options.connections = std::min(options.connections, most_connections());
    auto address = parse_address(options.address, options.port);
    const int family = address.storage.ss_family;
    listener = FileDescriptor(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!listener.is_open()) throw_socket_error("socket");
    const int on = 1;
    setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const std::string name = options.address + ":" + std::to_string(options.port);
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address.storage), address.size) != 0) {
      throw_socket_error(name);
    }
    if (::listen(listener.get(), 4096) != 0) throw_socket_error(name);
    getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.size);
    port = ntohs(family == AF_INET ? reinterpret_cast<sockaddr_in&>(address.storage).sin_port
                                   : reinterpret_cast<sockaddr_in6&>(address.storage).sin6_port);
    epoll = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
    wake = FileDescriptor(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!epoll.is_open() || !wake.is_open()) throw_socket_error("epoll");
    watch(listener.get(), EPOLLIN, kListener, EPOLL_CTL_ADD);
    watch(wake.get(), EPOLLIN, kWake, EPOLL_CTL_ADD);
  }

  void watch(int fd, uint32_t events, uint64_t id, int operation) const {
    epoll_event event{};
    event.events = events;
    event.data.u64 = id;
    ::epoll_ctl(epoll.get(), operation, fd, &event);
  }

  void run();
  void accept_all();
  template <class Work>
  void guarded(uint64_t id, const Work& work);
  void pump(Connection& connection);
  void settle(Connection& connection);
  void answer_finished();
  void sweep();
  void drop(uint64_t id);

  ServerOptions options;
  std::unique_ptr<TlsContext> tls;
  Admit admit;
  Handle handle;
  FileDescriptor listener, epoll, wake;
  uint16_t port = 0;
  std::atomic<bool> stopping{false};
  std::atomic<int64_t> open{0};
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections;
  std::map<std::string, size_t> per_address;
  uint64_t next_id = kFirstConnection;
  size_t in_progress = 0;
  WorkerPool* workers = nullptr;
  std::mutex finished_mutex;
  std::vector<std::pair<uint64_t, Response>> finished;
};

void HttpServer::Impl::run() {
  // A peer that hangs up in the middle of a TLS write must not end the process.
  sigset_t pipe, before;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &before);
  {
    WorkerPool pool(options.workers);
    workers = &pool;
    int64_t swept = now_ms(), stop_by = 0;
    epoll_event events[256];
    while (true) {
      const int count = ::epoll_wait(epoll.get(), events, 256, kSweepMs);
      if (count < 0 && errno != EINTR) throw_socket_error("epoll_wait");
      for (int i = 0; i < count; ++i) {
        const uint64_t id = events[i].data.u64;
        if (id == kListener) {
          if (!stopping) accept_all();
        } else if (id == kWake) {
          uint64_t value = 0;
          [[maybe_unused]] const ssize_t got = ::read(wake.get(), &value, sizeof value);
        } else if (const auto found = connections.find(id); found != connections.end()) {
          if ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0) {
            drop(id);  // an answer in the making goes nowhere; what it stored stays
          } else {
            guarded(id, [&] { pump(*found->second); });
          }
        }
      }
      answer_finished();
      const int64_t now = now_ms();
      if (stopping && stop_by == 0) {
        stop_by = now + options.drain_ms;
        ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, listener.get(), nullptr);
        listener = FileDescriptor();
        for (auto& [id, connection] : connections) connection->close_after_answer();
      }
      if (now - swept >= kSweepMs || stopping) {
        sweep();
        swept = now;
      }
      if (stopping && (connections.empty() || now >= stop_by)) break;
    }
  }  // the workers finish what they were given
  workers = nullptr;
  answer_finished();
  connections.clear();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void HttpServer::Impl::accept_all() {
  while (true) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const int socket = ::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) return;
    const std::string address = address_text(peer), network = network_of(address);
    // Hung up on at once.
    const bool full = connections.size() >= options.connections ||
                      (options.connections_per_address > 0 &&
                       per_address[network] >= options.connections_per_address);
    if (full) {
      ::close(socket);
      continue;
    }
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const uint64_t id = next_id++;
    try {
      connections[id] =
          std::make_unique<Connection>(id, socket, address, tls.get(), options, admit, now_ms());
    } catch (const IoError&) {  // no memory for another TLS connection: the others go on
      connections.erase(id);
      continue;
    }
    ++per_address[network];
    ++open;
    auto& connection = *connections[id];
    connection.watched = EPOLLIN;
    watch(socket, EPOLLIN, id, EPOLL_CTL_ADD);
  }
}

/// The waiting thread's own work on a connection. What throws there, for want of memory say, ends
/// that connection and no other.
template <class Work>
void HttpServer::Impl::guarded(uint64_t id, const Work& work) {
  try {
    work();
  } catch (const std::exception&) {
    drop(id);
  }
}

void HttpServer::Impl::pump(Connection& connection) {
  if (auto request = connection.advance(now_ms())) {
    ++in_progress;
    workers->run([this, id = connection.id(), request = std::move(*request)] {
      Response response;
      try {
        response = handle(request);
      } catch (const std::exception&) {
        response = error_response(500, "the server failed; nothing was stored");
      }
      {
        const std::lock_guard lock(finished_mutex);
        finished.emplace_back(id, std::move(response));
      }
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t put = ::write(wake.get(), &one, sizeof one);
    });
  }
  settle(connection);
}

/// Tells epoll what the connection now waits for, or lets it go. May end the connection's life.
void HttpServer::Impl::settle(Connection& connection) {
  if (connection.phase() == Connection::Phase::kClosed) {
    drop(connection.id());
  } else if (const uint32_t interest = connection.interest(); interest != connection.watched) {
    connection.watched = interest;
    watch(connection.socket(), interest, connection.id(), EPOLL_CTL_MOD);
  }
}

void HttpServer::Impl::answer_finished() {
  std::vector<std::pair<uint64_t, Response>> answers;
  {
    const std::lock_guard lock(finished_mutex);
    answers.swap(finished);
  }
  for (auto& [id, response] : answers) {
    --in_progress;
    const auto found = connections.find(id);
    if (found == connections.end()) continue;
    guarded(id, [&, &answered = response] {
      found->second->answer(std::move(answered), now_ms());
      // What came meanwhile (a second request on the same connection) is in the buffer already.
      if (workers != nullptr) pump(*found->second);
    });
  }
}

void HttpServer::Impl::sweep() {
  const int64_t now = now_ms();
  std::vector<uint64_t> over;
  for (auto& [id, connection] : connections) {
    if (stopping && connection->idle()) {
      over.push_back(id);
    } else if (connection->expire(now)) {
      over.push_back(id);
    }
  }
  for (const uint64_t id : over) {
    auto& connection = *connections.at(id);
    if (stopping && connection.idle()) {
      drop(id);
    } else {
      settle(connection);
    }
  }
}

void HttpServer::Impl::drop(uint64_t id) {
  const auto found = connections.find(id);
  if (found == connections.end()) return;
  const auto count = per_address.find(network_of(found->second->address()));
  if (count != per_address.end() && --count->second == 0) per_address.erase(count);
  connections.erase(found);  // closing the socket takes it out of epoll
  --open;
}

HttpServer::HttpServer(ServerOptions options, std::unique_ptr<TlsContext> tls, Admit admit,
                       Handle handle)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(tls), std::move(admit),
                                   std::move(handle))) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return impl_->port; }
void HttpServer::run() { impl_->run(); }
void HttpServer::stop() {
  impl_->stopping = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = ::write(impl_->wake.get(), &one, sizeof one);
}
int64_t HttpServer::open_connections() const { return impl_->open; }

}  // namespace hone::data::service
