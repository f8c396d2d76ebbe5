#pragma once

// The page's sections, top to bottom. Each returns HTML, or nothing when the run has nothing for
// it.

#include <string>

#include "engine/report/findings.h"
#include "engine/report/run_files.h"

namespace hone::engine::report {

std::string result_section(const RunFiles& run, const Verdict& verdict);
std::string samples_section(const RunFiles& run);
std::string curves_section(const RunFiles& run);
std::string reward_section(const RunFiles& run);
std::string raters_section(const RunFiles& run);
std::string scores_section(const RunFiles& run, const Verdict& verdict);
std::string time_section(const RunFiles& run);
std::string provenance_section(const RunFiles& run);

/// The page's style sheet.
extern const char* const kPageStyle;

}  // namespace hone::engine::report
