#include "data/service/assets.h"

#include <utility>

#include "data/service/embedded_files.h"
#include "data/service/secrets.h"
#include "data/sha256.h"

namespace hone::data::service {
namespace {

std::string content_type(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kTypes[] = {
      {".html", "text/html; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".mjs", "text/javascript; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".json", "application/json"},
      {".webmanifest", "application/manifest+json"},
      {".svg", "image/svg+xml"},
      {".png", "image/png"},
      {".ico", "image/x-icon"},
      {".woff2", "font/woff2"},
      {".txt", "text/plain; charset=utf-8"},
  };
  for (const auto& [ending, type] : kTypes) {
    if (name.size() >= ending.size() && name.substr(name.size() - ending.size()) == ending) {
      return std::string(type);
    }
  }
  return "application/octet-stream";
}

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
  return text;
}

std::string page_policy(const std::string& nonce) {
  return "default-src 'none'; script-src 'self' 'nonce-" + nonce +
         "'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; "
         "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
         "require-trusted-types-for 'script'; trusted-types hone";
}

}  // namespace

std::string_view strictest_content_policy() {
  return "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";
}

Assets::Assets() {
  Sha256 digest;
  for (const auto& file : embedded_files()) {
    if (file.name == "README.md") continue;
    digest.update(std::string(file.name) + "\n" + std::to_string(file.content().size()) + "\n");
    digest.update(file.content());
    files_[std::string(file.name)] = std::make_shared<const std::string>(file.content());
  }
  hash_ = digest.hex().substr(0, 16);
}

Response Assets::page(const std::string& name) const {
  Response response;
  response.type = "text/html; charset=utf-8";
  const std::string nonce = random_token(18);
  response.body =
      replaced(replaced(*files_.at(name), "{{nonce}}", nonce), "{{assets}}", "/assets/" + hash_);
  response.headers = {{"Content-Security-Policy", page_policy(nonce)},
                      {"Cache-Control", "no-store"}};
  return response;
}

std::optional<Response> Assets::get(std::string_view path) const {
  if (path == "/" || path == "/join" || path == "/manage") {
    const std::string name = path == "/manage" ? "manage.html" : "index.html";
    if (files_.count(name) == 0) return std::nullopt;
    return page(name);
  }
  if (path == "/worker.js") {
    const auto found = files_.find("worker.js");
    if (found == files_.end()) return std::nullopt;
    Response response;
    response.type = content_type(path);
    response.body = replaced(*found->second, "{{assets}}", "/assets/" + hash_);
    response.headers = {{"Content-Security-Policy", "default-src 'none'; connect-src 'self'"},
                        {"Cache-Control", "no-cache"}};
    return response;
  }
  if (path == "/favicon.ico") path = "/assets/" + hash_ + "/favicon.ico";
  // A map of what was embedded: no address reaches the file system.
  const std::string prefix = "/assets/" + hash_ + "/";
  if (path.substr(0, prefix.size()) != prefix) return std::nullopt;
  const auto found = files_.find(path.substr(prefix.size()));
  if (found == files_.end()) return std::nullopt;
  Response response;
  response.type = content_type(path);
  response.shared_body = found->second;
  response.headers = {{"Cache-Control", "public, max-age=31536000, immutable"},
                      {"ETag", "\"" + hash_ + "\""}};
  return response;
}

}  // namespace hone::data::service
