#pragma once

// Names of models must not reach raters. Letters and digits of a known name become full blocks, one
// for each, so that offsets into the text stay what they were.

#include <string>
#include <string_view>
#include <vector>

namespace hone::data {

/// Names of models and their makers that mean nothing else.
const std::vector<std::string>& known_model_names();
/// Names that are also words or people's names.
const std::vector<std::string>& ambiguous_model_names();

/// `text` with each known or further name masked, wherever it stands as a word of its own; a
/// version that follows ("GPT-4o") is masked with it. Case of ASCII letters aside. An ambiguous
/// name is masked only capitalised and with a version ("Llama 3.1") or where somebody says who they
/// are
/// ("I am Claude"): texts about koalas stay readable.
std::string scrub_names(std::string_view text, const std::vector<std::string>& further);

/// An edited copy of a scrubbed text with the masks turned back into what they hid, as far as they
/// are all still there in their order; else the edited text as it is.
std::string unscrub_names(std::string_view edited, std::string_view original,
                          const std::vector<std::string>& further);

}  // namespace hone::data
