#include "data/hdf5/handle.h"

namespace hone::data::hdf5 {
namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

struct StackText {
  std::string text;
  unsigned entries = 0;
};

herr_t append_entry(unsigned, const H5E_error2_t* entry, void* context) {
  constexpr unsigned kEntries = 2;  // the cause and what it was for; the rest is call frames
  auto& stack = *static_cast<StackText*>(context);
  if (stack.entries++ < kEntries && entry->desc != nullptr) {
    if (!stack.text.empty()) stack.text += "; ";
    stack.text += entry->desc;
  }
  return 0;
}

}  // namespace

LibraryLock::LibraryLock() : lock_(library_mutex()) {
  H5open();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5Eclear2(H5E_DEFAULT);
}

std::string take_error_stack() {
  StackText stack;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, &append_entry, &stack);
  H5Eclear2(H5E_DEFAULT);
  return stack.text.empty() ? "an error without text" : stack.text;
}

}  // namespace hone::data::hdf5
