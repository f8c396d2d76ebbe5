#pragma once

// The HDF5 type of a column of T.

#include <hdf5.h>

#include <bit>
#include <cstdint>

namespace hone::data::hdf5 {

static_assert(std::endian::native == std::endian::little, "columns are read as they are stored");

template <class T>
hid_t stored_type() = delete;
template <>
inline hid_t stored_type<uint8_t>() {
  return H5T_STD_U8LE;
}
template <>
inline hid_t stored_type<int8_t>() {
  return H5T_STD_I8LE;
}
template <>
inline hid_t stored_type<int64_t>() {
  return H5T_STD_I64LE;
}
template <>
inline hid_t stored_type<double>() {
  return H5T_IEEE_F64LE;
}

}  // namespace hone::data::hdf5
