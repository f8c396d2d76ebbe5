#pragma once

// What machines give: published peaks, and the shares of them that training reaches.

#include <string>
#include <vector>

namespace hone::engine {

struct Hardware {
  const char* name;
  double memory_bytes;      // of one device
  double matrix_flops;      // peak of dense products in the type the engine uses there, a second
  double memory_bandwidth;  // bytes a second
  int devices_per_node;
  double node_link;     // bytes a second, one way, between devices of a node
  double network_link;  // bytes a second, one way, a device's share of its node's network
  const char* source;
};

/// a100, h100, h200, b200; cpu2 is the machine that Hone's own figures come from.
const std::vector<Hardware>& known_hardware();
/// Throws data::InputError with the known names.
const Hardware& find_hardware(const std::string& name);

/// Share of the peak that whole training steps reach (the matrix products and everything between
/// them), of the memory bandwidth that decoding reaches, and of a link that a ring reaches.
struct Efficiency {
  double training = 0.40;
  double decoding = 0.60;
  double link = 0.80;
};
Efficiency efficiency_of(const Hardware& hardware);

}  // namespace hone::engine
