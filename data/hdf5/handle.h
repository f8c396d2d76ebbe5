#pragma once

// Ownership and errors of HDF5's C library, which is neither thread safe nor silent by itself.

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

namespace hone::data::hdf5 {

/// Held around every use of the library: one thread at a time, no printing of its error stack.
class LibraryLock {
 public:
  LibraryLock();

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

/// The innermost entries of HDF5's error stack as one line, and an empty stack.
std::string take_error_stack();

/// Sole owner of one HDF5 identifier. `Close` is the C function that releases its kind.
template <herr_t (*Close)(hid_t)>
class Handle {
 public:
  explicit Handle(hid_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) Close(id_);  // a destructor has no one to report to
  }
  hid_t get() const { return id_; }
  bool valid() const { return id_ >= 0; }
  hid_t release() { return std::exchange(id_, H5I_INVALID_HID); }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

using File = Handle<H5Fclose>;
using Group = Handle<H5Gclose>;
using Dataset = Handle<H5Dclose>;
using Dataspace = Handle<H5Sclose>;
using Datatype = Handle<H5Tclose>;
using Attribute = Handle<H5Aclose>;
using PropertyList = Handle<H5Pclose>;

}  // namespace hone::data::hdf5
