#include "engine/distributed/rank_group.h"

#include <dlfcn.h>

// The torch wheel carries c10d's header of Gloo but not Gloo's own; Debian's libgloo-dev does, and
// its library is not linked: libtorch_cpu holds Gloo. Only this file includes it.
#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO
#endif
#include <ATen/ops/empty_like.h>
#include <c10/util/Logging.h>
#include <c10/util/env.h>

#include <cstdlib>
#include <exception>
#include <future>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <utility>
#include <vector>

#include "data/error.h"
#include "data/sha256.h"
#include "engine/distributed/c10d_work.h"
#include "engine/distributed/meeting.h"
#include "engine/distributed/watch.h"

namespace hone::engine {
namespace {

using std::chrono::milliseconds;
using StorePtr = c10::intrusive_ptr<c10d::Store>;

// c10d's own limits, above all of ours: a limit of ours says which rank and which collective.
constexpr auto kNever = milliseconds(24LL * 3600 * 1000);

using BackendPtr = c10::intrusive_ptr<c10d::Backend>;

/// What c10d is told through its process's settings; before any of its threads could read them.
void set_process_up() {
  // What it warns of, with its stack, when a connection breaks is said here in one line.
  constexpr int kErrors = 2;
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = kErrors;
  // It notes every collective in a list of the process, one table of which it changes without a
  // lock: two communicators used by two threads (a step's and a checkpoint's) crash there. Failures
  // are named here without that list, so it is off unless the user asks for it.
  if (c10::utils::has_env("TORCH_NCCL_TRACE_BUFFER_SIZE")) return;  // its older name
  c10::utils::set_env("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/false);
}

/// c10d's NCCL, out of a library of its own.
BackendPtr nccl(const StorePtr& store, const Shared& shared) {
  void* library = ::dlopen("libhone_nccl.so", RTLD_NOW | RTLD_LOCAL);
  void* make = library ? ::dlsym(library, "hone_nccl_backend") : nullptr;
  if (!make) {
    throw data::InputError("ranks", "collectives of tensors on GPUs",
                           "a build with CUDA (libhone_nccl.so)", ::dlerror());
  }
  const auto backend = reinterpret_cast<c10d::Backend* (*)(c10d::Store*, int, int)>(make);
  return BackendPtr::reclaim(
      backend(store.get(), static_cast<int>(shared.rank), static_cast<int>(shared.world)));
}

BackendPtr gloo(const StorePtr& store, const Shared& shared, const std::string& address) {
  const auto options = c10d::ProcessGroupGloo::Options::create(kNever);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface && *interface) {
    options->devices = {c10d::ProcessGroupGloo::createDeviceForInterface(interface)};
  } else if (address == "127.0.0.1" || address == "localhost") {
    options->devices = {c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")};
  } else {
    options->devices = {c10d::ProcessGroupGloo::createDefaultDevice()};
  }
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, static_cast<int>(shared.rank),
                                                     static_cast<int>(shared.world), options);
}

/// Gloo, connected to every rank. In a thread of its own, because Gloo waits for ranks whether they
/// live or not: that thread, and the connection to the store that it waits at, is left behind when
/// one has died.
BackendPtr connect(const std::shared_ptr<Shared>& shared, const StorePtr& store,
                   const std::string& address) {
  constexpr const char* kWhat = "connecting";
  const auto begin = std::chrono::steady_clock::now();
  std::promise<BackendPtr> promise;
  auto connected = promise.get_future();
  std::thread([shared, store = store->clone(), address, promise = std::move(promise)]() mutable {
    try {
      promise.set_value(gloo(store, *shared, address));
    } catch (...) {
      promise.set_exception(std::current_exception());
    }
  }).detach();
  while (connected.wait_for(milliseconds(10)) != std::future_status::ready) {
    check_patience(*shared, begin, kWhat);
  }
  BackendPtr backend;
  try {
    backend = connected.get();
  } catch (const std::exception& error) {
    connection_lost(*shared, kWhat, error.what());
  }
  // Who hangs up before another has connected to everyone breaks that one's connecting.
  try {
    pending_work(shared, backend->barrier(), kWhat, /*patient=*/false).wait();
  } catch (...) {
    backend.release();
    throw;
  }
  return backend;
}

class C10dCommunicator : public Communicator {
 public:
  C10dCommunicator(std::shared_ptr<Shared> shared, StorePtr store, std::string address)
      : shared_(std::move(shared)),
        store_(std::move(store)),
        address_(std::move(address)),
        gloo_(connect(shared_, store_, address_)) {}
  ~C10dCommunicator() override {
    // Its threads wait for ranks that will not answer: they end with the process.
    if (!shared_->broken) return;
    gloo_.release();
    nccl_.release();
  }

  int64_t rank() const override { return shared_->rank; }
  int64_t world() const override { return shared_->world; }

  Pending all_reduce(const at::Tensor& values, Reduction reduction, const char* what) override {
    std::vector<at::Tensor> tensors = {values};
    c10d::AllreduceOptions options;
    options.reduceOp = reduction == Reduction::kSum ? c10d::ReduceOp::SUM : c10d::ReduceOp::MAX;
    return pending(backend(values).allreduce(tensors, options), what);
  }
  /// An exchange and a sum here: Gloo's own would end in wait() only, and sum in another order.
  Pending reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                         const char* what) override {
    const at::Tensor parts = at::empty_like(input);
    return pending_sum(all_to_all(parts, input, what), parts, output, world());
  }
  Pending all_gather(const at::Tensor& output, const at::Tensor& input, const char* what) override {
    at::Tensor to = output, from = input;
    return pending(backend(input)._allgather_base(to, from), what);
  }
  Pending broadcast(const at::Tensor& values, int64_t root, const char* what) override {
    std::vector<at::Tensor> tensors = {values};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return pending(backend(values).broadcast(tensors, options), what);
  }
  Pending all_to_all(const at::Tensor& output, const at::Tensor& input, const char* what) override {
    at::Tensor to = output, from = input;
    std::vector<int64_t> even;
    return pending(backend(input).alltoall_base(to, from, even, even), what);
  }
  void barrier(const char* what, bool patient) override {
    pending(gloo_->barrier(), what, patient).wait();
  }
  std::unique_ptr<Communicator> duplicate(const std::string& name) override {
    return std::make_unique<C10dCommunicator>(
        shared_,
        // A name may be used again, its keys may not.
        c10::make_intrusive<c10d::PrefixStore>(name + "." + std::to_string(shared_->duplicates++),
                                               store_),
        address_);
  }

 private:
  c10d::Backend& backend(const at::Tensor& values) {
    if (!values.is_cuda()) return *gloo_;
    if (!nccl_) {
      nccl_ = nccl(c10::make_intrusive<c10d::PrefixStore>("nccl", store_), *shared_);
    }
    return *nccl_;
  }
  Pending pending(c10::intrusive_ptr<c10d::Work> work, const char* what, bool patient = false) {
    return pending_work(shared_, std::move(work), what, patient);
  }

  std::shared_ptr<Shared> shared_;
  StorePtr store_;
  std::string address_;
  BackendPtr gloo_, nccl_;  // of tensors on the host; on GPUs, once one is asked of
};

}  // namespace

struct RankGroup::Impl {
  StorePtr store;
  std::shared_ptr<Shared> shared;
  std::unique_ptr<Communicator> communicator;

  /// Does not throw.
  static void leave(std::unique_ptr<Impl> impl) {
    auto& shared = *impl->shared;
    impl->communicator.reset();
    if (shared.watch->store_is_silent()) {  // a thread waits for it: that ends with the process
      static_cast<void>(impl.release());
      return;
    }
    try {
      say_goodbye(*impl->store, shared.rank, shared.world,
                  milliseconds(shared.broken ? 3000 : 10000));
    } catch (const std::exception&) {  // the store is gone already
    }
  }
};

RankGroup::RankGroup(const RankEnvironment& environment, const std::string& identity,
                     const RankLimits& limits)
    : impl_(new Impl) {
  if (environment.alone()) return;
  static std::once_flag once;
  std::call_once(once, set_process_up);
  impl_->store = meet(environment, identity, limits.meeting);
  impl_->shared = std::make_shared<Shared>();
  impl_->shared->rank = environment.rank;
  impl_->shared->world = environment.world;
  impl_->shared->limits = limits;
  impl_->shared->watch = std::make_unique<Watch>(impl_->store->clone(), environment.rank,
                                                 environment.world, limits.silence);
  try {
    impl_->communicator = std::make_unique<C10dCommunicator>(
        impl_->shared, c10::make_intrusive<c10d::PrefixStore>("main", impl_->store),
        environment.address);
  } catch (...) {
    Impl::leave(std::move(impl_));
    throw;
  }
}

RankGroup::~RankGroup() {
  if (impl_ && impl_->shared) Impl::leave(std::move(impl_));
}

Communicator& RankGroup::communicator() {
  return impl_->communicator ? *impl_->communicator : world_of_one();
}

void RankGroup::set_limits(const RankLimits& limits) {
  if (!impl_->shared) return;
  impl_->shared->limits = limits;
  impl_->shared->watch->set_silence(limits.silence);
}

RankFailure RankGroup::fail(int exit_code, const std::string& message) {
  if (!impl_->shared) return {exit_code, message};
  auto& shared = *impl_->shared;
  const auto first = shared.watch->fail({exit_code, message, false});
  shared.broken = true;
  return {first.exit_code, first.message, first.speaker};
}

void agree(Communicator& communicator, const char* what, const std::string& text) {
  if (communicator.world() == 1) return;
  const auto hashes = all_gather_bytes(communicator, data::sha256_hex(text), what);
  std::vector<int64_t> others;
  for (size_t r = 1; r < hashes.size(); ++r) {
    if (hashes[r] != hashes[0]) others.push_back(static_cast<int64_t>(r));
  }
  if (others.empty()) return;
  throw data::InputError(
      "ranks", what, "the same on every rank",
      rank_list(others) + (others.size() == 1 ? " has" : " have") + " another than rank 0");
}

}  // namespace hone::engine
