// The server alone, over real sockets, with a handler that repeats what it was sent.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "data/service/http/server.h"

namespace hone::data::service {
namespace {

using namespace std::chrono_literals;

class Client {
 public:
  explicit Client(uint16_t port) {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    timeval patience{5, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;

  void send(const std::string& text) {
    [[maybe_unused]] const auto sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
  }
  void half_close() { ::shutdown(socket_, SHUT_WR); }
  /// Everything up to the other side's close, or five seconds.
  std::string read_all() {
    std::string all;
    char buffer[4096];
    for (ssize_t got; (got = ::recv(socket_, buffer, sizeof buffer, 0)) > 0;) {
      all.append(buffer, static_cast<size_t>(got));
    }
    return all;
  }
  /// Until `end` was read.
  std::string read_until(const std::string& end) {
    std::string all;
    char c;
    while (all.find(end) == std::string::npos && ::recv(socket_, &c, 1, 0) == 1) all += c;
    return all;
  }
  bool connected() const { return connected_; }

 private:
  int socket_;
  bool connected_ = false;
};

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    options.port = 0;
    options.workers = 2;
    options.head_ms = 400;
    options.body_ms = 400;
    options.idle_ms = 3000;
    options.finish = [](Response& response) { response.headers.emplace_back("X-Every", "1"); };
  }
  ~HttpServerTest() override { stop(); }
  void start() {
    server = std::make_unique<HttpServer>(
        options, nullptr,
        [](const Request& head) -> std::variant<uint64_t, Response> {
          if (head.path == "/refused") return error_response(403, "no");
          return uint64_t{1000};
        },
        [this](const Request& request) {
          ++handled;
          if (request.path == "/slow") std::this_thread::sleep_for(300ms);
          if (request.path == "/throw") throw std::runtime_error("secret detail");
          Response response;
          response.type = "text/plain";
          response.body = request.method + " " + request.path + " " + request.body;
          if (request.path == "/large") response.body = std::string(5 << 20, 'x');
          return response;
        });
    thread = std::thread([this] { server->run(); });
  }
  void stop() {
    if (!thread.joinable()) return;
    server->stop();
    thread.join();
  }
  std::string exchange(const std::string& request) {
    Client client(server->port());
    client.send(request);
    return client.read_all();
  }

  ServerOptions options;
  std::unique_ptr<HttpServer> server;
  std::thread thread;
  std::atomic<int> handled{0};
};

const std::string kHost = "\r\nHost: a\r\n";
const std::string kClose = kHost + "Connection: close\r\n\r\n";

TEST_F(HttpServerTest, AnswersOneRequestAndCloses) {
  start();
  const auto answer = exchange("GET /a HTTP/1.1" + kClose);
  EXPECT_EQ(answer.substr(0, 17), "HTTP/1.1 200 OK\r\n");
  EXPECT_NE(answer.find("Content-Length: 7\r\n"), std::string::npos);
  EXPECT_NE(answer.find("X-Every: 1\r\n"), std::string::npos);
  EXPECT_EQ(answer.substr(answer.size() - 7), "GET /a ");
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  start();
  const auto answer = exchange("HEAD /a HTTP/1.1" + kClose);
  EXPECT_NE(answer.find("Content-Length: 8\r\n"), std::string::npos);
  EXPECT_EQ(answer.substr(answer.size() - 4), "\r\n\r\n");
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  start();
  const auto answer =
      exchange("POST /1 HTTP/1.1" + kHost + "Content-Length: 3\r\n\r\nabcGET /2 HTTP/1.1" + kHost +
               "\r\nGET /3 HTTP/1.1" + kClose);
  const size_t first = answer.find("POST /1 abc"), second = answer.find("GET /2"),
               third = answer.find("GET /3");
  EXPECT_NE(third, std::string::npos) << answer;
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
}

TEST_F(HttpServerTest, ALargeAnswerArrivesWhole) {
  start();
  const auto answer = exchange("GET /large HTTP/1.1" + kClose);
  EXPECT_GT(answer.size(), size_t{5 << 20});
}

TEST_F(HttpServerTest, AHalfClosedClientStillGetsItsAnswer) {
  start();
  Client client(server->port());
  client.send("GET /slow HTTP/1.1" + kClose);
  client.half_close();
  EXPECT_NE(client.read_all().find("GET /slow"), std::string::npos);
}

TEST_F(HttpServerTest, ABodyLongerThanAdmittedIsRefusedBeforeItIsRead) {
  start();
  const auto answer = exchange("POST /a HTTP/1.1" + kHost + "Content-Length: 1001\r\n\r\n");
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 413") << answer;
  EXPECT_NE(answer.find("X-Every: 1\r\n"), std::string::npos);
  EXPECT_EQ(handled, 0);
}

TEST_F(HttpServerTest, AnUnreadBodyIsNeverTakenForARequest) {
  start();
  const std::string smuggled = "GET /smuggled HTTP/1.1" + kHost + "\r\n";
  const auto answer = exchange("POST /refused HTTP/1.1" + kHost + "Content-Length: " +
                               std::to_string(smuggled.size()) + "\r\n\r\n" + smuggled);
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 403");
  EXPECT_EQ(answer.find("smuggled"), std::string::npos);
  EXPECT_EQ(handled, 0);
}

TEST_F(HttpServerTest, BytesAfterARefusedHeadAreNotRead) {
  start();
  const auto answer = exchange("POST / HTTP/1.1" + kHost +
                               "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
                               "0\r\n\r\nGET /smuggled HTTP/1.1" +
                               kHost + "\r\n");
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 501");
  EXPECT_EQ(handled, 0);
}

TEST_F(HttpServerTest, SlowHeadsAndBodiesAreCutOff) {
  start();
  for (const std::string beginning : {"GET / HTTP/1.1\r\nHo",
                                      "POST / HTTP/1.1\r\nHost: a\r\n"
                                      "Content-Length: 100\r\n\r\nab"}) {
    Client client(server->port());
    client.send(beginning);
    const auto begin = std::chrono::steady_clock::now();
    std::thread trickle([&client] {
      for (int i = 0; i < 20; ++i) {  // one byte at a time does not help
        std::this_thread::sleep_for(50ms);
        client.send("x");
      }
    });
    const auto answer = client.read_until("\r\n\r\n");
    const auto took = std::chrono::steady_clock::now() - begin;
    trickle.join();
    EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 408") << answer;
    EXPECT_LT(took, 3s);
  }
  EXPECT_EQ(handled, 0);
}

TEST_F(HttpServerTest, IdleConnectionsCostNoThread) {
  start();
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 200; ++i) idle.push_back(std::make_unique<Client>(server->port()));
  EXPECT_NE(exchange("GET /a HTTP/1.1" + kClose).find("GET /a"), std::string::npos);
  for (auto& client : idle) client->send("GET /b HTTP/1.1" + kHost + "\r\n");
  for (auto& client : idle) {
    EXPECT_NE(client->read_until("GET /b").find("200 OK"), std::string::npos);
  }
}

TEST_F(HttpServerTest, AtMostSoManyConnectionsOfOneAddress) {
  options.connections_per_address = 3;
  start();
  Client a(server->port()), b(server->port()), c(server->port()), d(server->port());
  d.send("GET / HTTP/1.1" + kClose);
  EXPECT_EQ(d.read_all(), "");
  a.send("GET /a HTTP/1.1" + kClose);
  EXPECT_NE(a.read_all().find("200 OK"), std::string::npos);
}

TEST_F(HttpServerTest, AHandlersExceptionTellsNothing) {
  start();
  const auto answer = exchange("GET /throw HTTP/1.1" + kClose);
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 500");
  EXPECT_EQ(answer.find("secret"), std::string::npos);
}

TEST_F(HttpServerTest, ContinueIsSentOnceTheHeadIsGood) {
  start();
  Client client(server->port());
  client.send("POST /a HTTP/1.1" + kHost +
              "Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hi");
  EXPECT_NE(client.read_all().find("POST /a hi"), std::string::npos);
}

TEST_F(HttpServerTest, StoppingFinishesWhatIsInProgress) {
  start();
  Client busy(server->port()), idle(server->port());
  busy.send("GET /slow HTTP/1.1" + kHost + "\r\n");
  std::this_thread::sleep_for(100ms);
  const auto begin = std::chrono::steady_clock::now();
  stop();
  // The answer's reader, who does not hang up, has two seconds for it.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  const auto answer = busy.read_all();
  EXPECT_NE(answer.find("GET /slow"), std::string::npos);
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
  EXPECT_EQ(idle.read_all(), "");
}

}  // namespace
}  // namespace hone::data::service
