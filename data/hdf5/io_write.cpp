#include <cstdlib>
#include <cstring>

#include "data/hdf5/io.h"
#include "data/hdf5/stored_type.h"
#include "data/sha256.h"

namespace hone::data::hdf5 {
namespace {

void require(bool ok, const std::string& operation) {
  if (!ok) throw IoError("hdf5 (in memory)", operation, "success", take_error_stack());
}

template <class HandleType>
HandleType require(HandleType handle, const std::string& operation) {
  require(handle.valid(), operation);
  return handle;
}

void write_attribute(hid_t object, const std::string& name, hid_t type, const void* value) {
  const auto scalar = require(Dataspace(H5Screate(H5S_SCALAR)), name);
  const auto attribute = require(
      Attribute(H5Acreate2(object, name.c_str(), type, scalar.get(), H5P_DEFAULT, H5P_DEFAULT)),
      name);
  require(H5Awrite(attribute.get(), type, value) >= 0, name);
}

void write_text_attribute(hid_t object, const std::string& name, const std::string& value) {
  const auto type = require(Datatype(H5Tcopy(H5T_C_S1)), name);
  require(H5Tset_size(type.get(), value.empty() ? 1 : value.size()) >= 0, name);
  require(H5Tset_strpad(type.get(), H5T_STR_NULLPAD) >= 0, name);
  write_attribute(object, name, type.get(), value.empty() ? "\0" : value.data());
}

}  // namespace

// The core driver's buffer. Its own way out, H5Fget_file_image, leaves a superblock whose checksum
// is wrong (HDF5 1.10.8), so the buffer is taken over when the driver would free it.
struct ColumnFileWriter::Image {
  void* bytes = nullptr;
  uint64_t reserved = 0;

  ~Image() { std::free(bytes); }
  static void* resize(void* old, size_t size, H5FD_file_image_op_t, void* self) {
    void* bytes = std::realloc(old, size);
    if (bytes != nullptr) static_cast<Image*>(self)->bytes = bytes;
    return bytes;
  }
  static herr_t keep(void*, H5FD_file_image_op_t, void*) { return 0; }
  static void* same(void* self) { return self; }
  static herr_t nothing(void*) { return 0; }
};

ColumnFileWriter::ColumnFileWriter(uint64_t reserved)
    : image_(std::make_unique<Image>()), file_(H5I_INVALID_HID) {
  image_->reserved = reserved;
  const auto access = require(PropertyList(H5Pcreate(H5P_FILE_ACCESS)), "create");
  constexpr std::size_t kIncrement = 1 << 20;
  require(H5Pset_fapl_core(access.get(), kIncrement, false) >= 0, "create");
  // Columns begin where mapped memory can be read as their type; short ones are not worth padding.
  constexpr hsize_t kShort = 512, kAlignment = 64;
  require(H5Pset_alignment(access.get(), kShort, kAlignment) >= 0, "create");
  // This format has checksums on all metadata, which the oldest does not.
  require(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0, "create");
  H5FD_file_image_callbacks_t callbacks{};
  callbacks.image_realloc = &Image::resize;
  callbacks.image_free = &Image::keep;
  callbacks.udata_copy = &Image::same;
  callbacks.udata_free = &Image::nothing;
  callbacks.udata = image_.get();
  require(H5Pset_file_image_callbacks(access.get(), &callbacks) >= 0, "create");
  const auto creation = require(PropertyList(H5Pcreate(H5P_FILE_CREATE)), "create");
  require(H5Pset_userblock(creation.get(), reserved) >= 0, "create");
  file_ =
      require(File(H5Fcreate("segment", H5F_ACC_TRUNC, creation.get(), access.get())), "create");
}

ColumnFileWriter::~ColumnFileWriter() = default;  // file_ closes before image_ is freed

void ColumnFileWriter::add_group(const std::string& path) {
  require(Group(H5Gcreate2(file_.get(), path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)),
          path);
}

void ColumnFileWriter::write(const std::string& path, hid_t type, const void* values,
                             uint64_t count, uint64_t bytes) {
  const hsize_t extent = count;
  const auto space = require(Dataspace(H5Screate_simple(1, &extent, nullptr)), path);
  const auto creation = require(PropertyList(H5Pcreate(H5P_DATASET_CREATE)), path);
  require(H5Pset_layout(creation.get(), H5D_CONTIGUOUS) >= 0, path);
  // Same records, same bytes.
  require(H5Pset_obj_track_times(creation.get(), false) >= 0, path);
  const auto dataset = require(Dataset(H5Dcreate2(file_.get(), path.c_str(), type, space.get(),
                                                  H5P_DEFAULT, creation.get(), H5P_DEFAULT)),
                               path);
  if (count > 0) {
    require(H5Dwrite(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, path);
  }
  const std::string digest = sha256_hex({static_cast<const char*>(values), bytes});
  write_text_attribute(dataset.get(), "sha256", digest);
  const haddr_t offset = count > 0 ? H5Dget_offset(dataset.get()) : 0;  // counts reserved bytes
  require(offset != HADDR_UNDEF, path);
  columns_[path] = {offset, bytes, digest};
}

template <class T>
void ColumnFileWriter::add_column(const std::string& path, std::span<const T> values) {
  write(path, stored_type<T>(), values.data(), values.size(), values.size() * sizeof(T));
}
template void ColumnFileWriter::add_column(const std::string&, std::span<const uint8_t>);
template void ColumnFileWriter::add_column(const std::string&, std::span<const int8_t>);
template void ColumnFileWriter::add_column(const std::string&, std::span<const int64_t>);
template void ColumnFileWriter::add_column(const std::string&, std::span<const double>);

void ColumnFileWriter::add_attribute(const std::string& name, const std::string& value) {
  write_text_attribute(file_.get(), name, value);
}

void ColumnFileWriter::add_attribute(const std::string& name, int64_t value) {
  write_attribute(file_.get(), name, H5T_STD_I64LE, &value);
}

std::string ColumnFileWriter::finish() {
  require(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL) >= 0, "flush");
  const ssize_t size = H5Fget_file_image(file_.get(), nullptr, 0);  // without the reserved bytes
  require(size > 0, "size");
  require(H5Fclose(file_.release()) >= 0, "close");
  return {static_cast<const char*>(image_->bytes), static_cast<size_t>(size) + image_->reserved};
}

}  // namespace hone::data::hdf5
