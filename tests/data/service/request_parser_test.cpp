#include "data/service/http/request_parser.h"

#include <gtest/gtest.h>

namespace hone::data::service {
namespace {

using State = ParsedHead::State;

ParsedHead parse(const std::string& lines) { return parse_head(lines + "\r\n\r\n"); }

int refusal(const std::string& lines) {
  const auto head = parse(lines);
  return head.state == State::kRefused ? head.status : 0;
}

TEST(RequestParser, ReadsAWholeHead) {
  const std::string text =
      "POST /api/next?project=a%20b&x=1 HTTP/1.1\r\nHost: localhost:8080\r\n"
      "X-CSRF-Token:  abc \r\nContent-Length: 12\r\nCookie: a=1; hone=secret\r\n\r\n{\"held\": []}";
  const auto head = parse_head(text);
  ASSERT_EQ(head.state, State::kComplete);
  EXPECT_EQ(head.request.method, "POST");
  EXPECT_EQ(head.request.path, "/api/next");
  EXPECT_EQ(head.request.parameter("project"), "a b");
  EXPECT_EQ(head.request.parameter("missing"), "");
  EXPECT_EQ(head.request.header("x-csrf-token"), "abc");
  EXPECT_EQ(head.request.cookie("hone"), "secret");
  EXPECT_EQ(head.body_bytes, 12U);
  EXPECT_EQ(text.substr(head.bytes), "{\"held\": []}");
  EXPECT_TRUE(head.keep_alive);
}

TEST(RequestParser, EveryPrefixIsIncomplete) {
  const std::string text = "GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
  for (size_t n = 0; n < text.size(); ++n) {
    EXPECT_EQ(parse_head(text.substr(0, n)).state, State::kIncomplete) << n;
  }
  EXPECT_EQ(parse_head(text).state, State::kComplete);
}

TEST(RequestParser, ConnectionIsKeptByVersionAndHeader) {
  EXPECT_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close").keep_alive);
  EXPECT_FALSE(parse("GET / HTTP/1.0\r\nHost: a").keep_alive);
}

TEST(RequestParser, RefusesWhatTwoServersCouldReadInTwoWays) {
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2"), 400);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1"), 400);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1"), 400);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1"), 400);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1"), 400);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:"), 400);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999"), 400);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked"), 501);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                    "Transfer-Encoding : chunked"),
            400);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: a\r\nHost: b"), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1"), 400);  // no Host
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: a\r\n folded: b"), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: a\r\nX : b"), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: a\r\nX\tY: b"), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: a\r\n: b"), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1\nHost: a"), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c"), 400);
  EXPECT_EQ(refusal(std::string("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c", 31)), 400);
}

TEST(RequestParser, RefusesOddRequestLines) {
  EXPECT_EQ(refusal("GET http://evil/ HTTP/1.1\r\nHost: a"), 400);
  EXPECT_EQ(refusal("GET  / HTTP/1.1\r\nHost: a"), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1 \r\nHost: a"), 400);
  EXPECT_EQ(refusal("GET /a b HTTP/1.1\r\nHost: a"), 400);
  EXPECT_EQ(refusal("GET /\x7f HTTP/1.1\r\nHost: a"), 400);
  EXPECT_EQ(refusal("GET /\xc3\xa4 HTTP/1.1\r\nHost: a"), 400);
  EXPECT_EQ(refusal("GET / HTTP/2.0\r\nHost: a"), 505);
  EXPECT_EQ(refusal("(GET) / HTTP/1.1\r\nHost: a"), 400);
  EXPECT_EQ(refusal("\r\nGET / HTTP/1.1\r\nHost: a"), 400);
}

TEST(RequestParser, LimitsAreHeldBeforeTheEndIsSeen) {
  EXPECT_EQ(parse_head("GET /" + std::string(5000, 'a')).status, 414);
  EXPECT_EQ(parse_head("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(20000, 'a')).status, 431);
  std::string many = "GET / HTTP/1.1\r\nHost: a";
  for (int i = 0; i < 64; ++i) many += "\r\nX: 1";
  EXPECT_EQ(refusal(many), 431);
}

TEST(Request, ACookieThatIsThereTwiceIsNone) {
  Request request;
  request.headers = {{"cookie", "hone=a; other=b"}, {"cookie", "hone=b"}};
  EXPECT_EQ(request.cookie("hone"), "");
  EXPECT_EQ(request.cookie("other"), "b");
}

TEST(Response, NoHeaderSplitsIt) {
  Response response;
  response.headers = {{"X", "a\r\nSet-Cookie: hone=evil"}};
  const auto text = serialize(response, true, false);
  EXPECT_EQ(text.find("\r\nSet-Cookie"), std::string::npos);
}

}  // namespace
}  // namespace hone::data::service
