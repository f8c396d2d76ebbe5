#include "engine/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <cstdlib>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/file_descriptor.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPartial = ".partial-";

bool starts_with(const fs::path& path, const char* prefix) {
  return path.filename().string().starts_with(prefix);
}

/// The step when the name is one of a checkpoint at a step's end, else -1.
int64_t whole_step(const fs::path& checkpoint) {
  const std::string digits = checkpoint.filename().string().substr(5);
  return digits.find('.') == std::string::npos ? std::strtoll(digits.c_str(), nullptr, 10) : -1;
}

}  // namespace

std::vector<fs::path> CheckpointFolder::checkpoints() const {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    if (starts_with(entry.path(), "step-")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

fs::path CheckpointFolder::partial(const TrainingPosition& position) const {
  return path_ / (kPartial + checkpoint_name(position));
}

void CheckpointFolder::prepare() const {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) {
    throw data::IoError(path_.string(), "checkpoints", "a folder that can be written",
                        error.message());
  }
  std::vector<fs::path> left;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (starts_with(entry.path(), ".")) left.push_back(entry.path());
  }
  for (const auto& path : left) fs::remove_all(path, error);
}

void CheckpointFolder::publish(const fs::path& partial, const Manifest& manifest) const {
  data::write_file_atomically(partial / "manifest.json", manifest_text(manifest));
  const auto path = path_ / checkpoint_name(manifest.position);
  if (fs::exists(path)) remove(path);  // a damaged one: the run came by here again
  data::rename_file(partial, path);
  data::sync_directory(path_);
}

void CheckpointFolder::remove(const fs::path& checkpoint) const {
  const auto hidden = path_ / (kPartial + checkpoint.filename().string() + ".removed");
  data::rename_file(checkpoint, hidden);
  std::error_code ignored;  // what stays goes at the next start
  fs::remove_all(hidden, ignored);
}

void CheckpointFolder::retain(const CheckpointOptions& options) const {
  const auto all = checkpoints();
  const auto newest = static_cast<size_t>(std::max<int64_t>(0, options.keep_last));
  for (size_t i = 0; i + newest < all.size(); ++i) {
    const int64_t step = whole_step(all[i]);
    if (options.keep_every > 0 && step > 0 && step % options.keep_every == 0) continue;
    remove(all[i]);
  }
}

fs::path CheckpointFolder::set_aside() const {
  fs::path aside;
  for (int n = 1; fs::exists(aside = path_.string() + ".old-" + std::to_string(n)); ++n) {
  }
  data::rename_file(path_, aside);
  return aside;
}

}  // namespace hone::engine
