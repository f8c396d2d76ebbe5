#pragma once

#include <string>

namespace hone::engine {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Valid UTF-8 in a normal form of Unicode 9, which is the edition that the `tokenizers` package
/// follows: characters that came later stay as they are.
void normalize(std::string& text, NormalForm form);

/// Removes the combining marks of Unicode 9.
void strip_accents(std::string& text);

/// Every character in lower case (Unicode 17, one by one: no rules of place or language).
void lowercase(std::string& text);

}  // namespace hone::engine
