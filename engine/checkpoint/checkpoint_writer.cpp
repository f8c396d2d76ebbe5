#include "engine/checkpoint/checkpoint_writer.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "data/error.h"
#include "engine/runtime/build_info.h"
#include "engine/runtime/iso_time.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Training comes first on a core, and on a disk, that both want: Linux gives each thread its own
/// priorities. Not the last one, which a machine busy with others' work leaves without any time:
/// a training whose next save is due would wait for it.
void step_back() {
  constexpr int kNice = 10;
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  setpriority(PRIO_PROCESS, thread, kNice);
  // ioprio_set(2): IOPRIO_WHO_PROCESS, the best-effort class's last level. Whether it is heeded is
  // the disk scheduler's affair.
  constexpr int kWhoProcess = 1, kBestEffort = 2 << 13, kLastLevel = 7;
  syscall(SYS_ioprio_set, kWhoProcess, thread, kBestEffort | kLastLevel);
}

/// What `act` throws, as text; empty when it does not.
template <class F>
std::string failure_of(F&& act) {
  try {
    act();
    return {};
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an unknown error";
  }
}

}  // namespace

CheckpointWriter::CheckpointWriter(const CheckpointFolder& folder, const CheckpointOptions& options,
                                   Metrics& metrics, Communicator& communicator)
    : folder_(folder),
      options_(options),
      metrics_(metrics),
      communicator_(communicator.duplicate("checkpoint")) {}

CheckpointWriter::~CheckpointWriter() { wait(); }

void CheckpointWriter::start(const SafePoint& point) {
  wait();
  ShardData data = share_of(point.state, communicator_->rank(), communicator_->world());
  const auto copy = std::make_shared<HostCopy>(data.values);
  {
    const std::lock_guard lock(lock_);
    copy_ = copy;
    done_ = false;
  }
  SafePoint rest = {point.position, point.identity, {}, point.metrics, point.seconds};
  rest.state.scalars = point.state.scalars;
  thread_ = std::thread([this, rest = std::move(rest), data = std::move(data), copy]() mutable {
    run(std::move(rest), std::move(data), copy);
  });
}

bool CheckpointWriter::busy() const {
  const std::lock_guard lock(lock_);
  return !done_;
}

void CheckpointWriter::await_copy() {
  std::shared_ptr<HostCopy> copy;
  {
    const std::lock_guard lock(lock_);
    copy = copy_;
  }
  if (copy) copy->help();
}

void CheckpointWriter::wait() {
  if (thread_.joinable()) thread_.join();
}

std::string CheckpointWriter::take_error() {
  const std::lock_guard lock(lock_);
  return done_ ? std::exchange(error_, {}) : std::string();
}

void CheckpointWriter::run(SafePoint point, ShardData data, const std::shared_ptr<HostCopy>& copy) {
  step_back();
  copy->help();  // what it has not come to when the training needs it, the training copies
  data.values = copy->take();
  {
    const std::lock_guard lock(lock_);
    copy_.reset();
  }
  std::string error;
  const std::string failed = failure_of([&] { error = write(point, data); });
  const std::lock_guard lock(lock_);
  error_ = failed.empty() ? error : failed;
  done_ = true;
}

/// Every rank comes through every collective whatever fails on it.
std::string CheckpointWriter::write(const SafePoint& point, const ShardData& data) {
  const bool leads = communicator_->leads();
  const auto partial = folder_.partial(point.position);
  std::string error;
  if (leads) {
    error = failure_of([&] {
      fs::remove_all(partial);
      fs::create_directory(partial);
    });
  }
  communicator_->barrier("the checkpoint's folder", true);
  ShardRecord shard;
  if (error.empty()) {
    error = failure_of(
        [&] { shard = write_shard(partial, data, communicator_->rank(), communicator_->world()); });
  }
  communicator_->barrier("shards of a checkpoint", true);
  const json mine = error.empty() ? to_json(shard) : json({{"error", error}});
  const auto texts =
      all_gather_bytes(*communicator_, mine.dump(-1, ' ', false, json::error_handler_t::replace),
                       "shards of a checkpoint");
  Manifest manifest;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    const json object = json::parse(texts[rank]);
    if (object.contains("error")) {
      error = object["error"].get<std::string>();
      if (texts.size() > 1) error = "rank " + std::to_string(rank) + ": " + error;
      break;
    }
    manifest.shards.push_back(shard_from_json(object));
  }
  if (leads && error.empty()) {
    manifest.position = point.position;
    manifest.identity = point.identity;
    manifest.metrics = point.metrics;
    manifest.seconds = point.seconds;
    manifest.time = iso_time();
    manifest.version = version();
    manifest.scalars = point.state.scalars;
    error = failure_of([&] {
      metrics_.sync();  // what the manifest's position speaks of is on the disk before it
      folder_.publish(partial, manifest);
      folder_.retain(options_);
    });
  }
  if (leads && !error.empty()) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
  }
  return broadcast_bytes(*communicator_, error, 0, "whether a checkpoint is whole");
}

}  // namespace hone::engine
