#pragma once

// Which Host a request may be for. A page of a stranger whose name suddenly points to this machine
// (DNS rebinding) sends that name here: it is refused.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace hone::data::service {

/// "name:8080" -> "name", "[::1]:8080" -> "::1"; empty when it is no host.
std::string host_without_port(std::string_view host);
bool is_ip_address(const std::string& host);
bool is_loopback(const std::string& host);  // addresses of this machine, and localhost

/// What one subscriber has: an IPv4 address is itself, of an IPv6 address the first 64 bits, since
/// whoever has one has 2^64 of them; limits by address count by it.
std::string network_of(const std::string& address);

class HostNames {
 public:
  /// `names` are those of the server; `covers` is its certificate's opinion (may be empty).
  HostNames(std::vector<std::string> names, std::function<bool(const std::string&)> covers)
      : names_(std::move(names)), covers_(std::move(covers)) {}
  /// Loopback names, any address in digits (nobody can rebind it), own names.
  bool allow(std::string_view host_header) const;

 private:
  std::vector<std::string> names_;
  std::function<bool(const std::string&)> covers_;
};

}  // namespace hone::data::service
