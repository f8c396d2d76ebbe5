#include <algorithm>

#include "data/hdf5/io.h"
#include "data/hdf5/stored_type.h"
#include "data/sha256.h"

namespace hone::data::hdf5 {
namespace {

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    if (end > at) parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::string read_text(hid_t object, const std::string& name) {
  constexpr std::size_t kLongest = 4096;
  const Attribute attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT));
  if (!attribute.valid()) return {};
  const Datatype type(H5Aget_type(attribute.get()));
  const Dataspace space(H5Aget_space(attribute.get()));
  const std::size_t size = type.valid() ? H5Tget_size(type.get()) : 0;
  if (!type.valid() || H5Tget_class(type.get()) != H5T_STRING ||
      H5Tis_variable_str(type.get()) != 0 || H5Sget_simple_extent_npoints(space.get()) != 1 ||
      size == 0 || size > kLongest) {
    return {};
  }
  std::string value(size, '\0');
  if (H5Aread(attribute.get(), type.get(), value.data()) < 0) return {};
  value.resize(std::min(value.find('\0'), value.size()));
  return value;
}

struct LeafWalk {
  std::string prefix;
  std::vector<std::string>* leaves;
};

herr_t collect_leaf(hid_t group, const char* name, const H5L_info_t* link, void* context) {
  auto& walk = *static_cast<LeafWalk*>(context);
  const std::string path = walk.prefix + "/" + name;
  if (walk.prefix.empty() && link->type == H5L_TYPE_HARD) {
    const Group child(H5Gopen2(group, name, H5P_DEFAULT));
    if (child.valid()) {
      LeafWalk inner{path, walk.leaves};
      return H5Literate(child.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, &collect_leaf, &inner);
    }
    H5Eclear2(H5E_DEFAULT);
  }
  walk.leaves->push_back(path);
  return 0;
}

}  // namespace

ColumnError::ColumnError(const std::string& file, std::string column, const std::string& expected,
                         const std::string& got)
    : CorruptError(file, column, expected, got),
      column_(std::move(column)),
      finding_("expected " + expected + ", got " + got) {}

ColumnFileReader::ColumnFileReader(const std::filesystem::path& path)
    : name_(path.string()),
      bytes_(std::filesystem::file_size(path)),
      file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)) {
  if (!file_.valid()) throw CorruptError(name_, "open", "an HDF5 file", take_error_stack());
}

std::string ColumnFileReader::text_attribute(const std::string& name) const {
  const std::string value = read_text(file_.get(), name);
  H5Eclear2(H5E_DEFAULT);
  if (value.empty()) throw CorruptError(name_, "attribute " + name, "a text", "none");
  return value;
}

int64_t ColumnFileReader::integer_attribute(const std::string& name) const {
  const Attribute attribute(H5Aopen(file_.get(), name.c_str(), H5P_DEFAULT));
  if (attribute.valid()) {
    const Datatype type(H5Aget_type(attribute.get()));
    const Dataspace space(H5Aget_space(attribute.get()));
    int64_t value = 0;
    if (H5Tequal(type.get(), H5T_STD_I64LE) > 0 && H5Sget_simple_extent_npoints(space.get()) == 1 &&
        H5Aread(attribute.get(), H5T_STD_I64LE, &value) >= 0) {
      return value;
    }
  }
  throw CorruptError(name_, "attribute " + name, "a 64-bit integer", take_error_stack());
}

bool ColumnFileReader::has(const std::string& path) const {
  std::string so_far;
  for (const std::string& part : split_path(path)) {
    so_far += "/" + part;
    if (H5Lexists(file_.get(), so_far.c_str(), H5P_DEFAULT) <= 0) {
      H5Eclear2(H5E_DEFAULT);
      return false;
    }
  }
  return true;
}

Dataset ColumnFileReader::open_column(const std::string& path) const {
  if (!has(path)) throw ColumnError(name_, path, "a column", "none");
  // A soft or external link could lead to another file.
  std::string so_far;
  for (const std::string& part : split_path(path)) {
    so_far += "/" + part;
    H5L_info_t link{};
    if (H5Lget_info(file_.get(), so_far.c_str(), &link, H5P_DEFAULT) < 0 ||
        link.type != H5L_TYPE_HARD) {
      throw ColumnError(name_, path, "a hard link", "another kind of link");
    }
  }
  Dataset dataset(H5Dopen2(file_.get(), path.c_str(), H5P_DEFAULT));
  if (!dataset.valid()) throw ColumnError(name_, path, "a dataset", take_error_stack());
  return dataset;
}

uint64_t ColumnFileReader::checked_count(const std::string& path, const Dataset& dataset,
                                         hid_t type) const {
  const Datatype stored(H5Dget_type(dataset.get()));
  const Dataspace space(H5Dget_space(dataset.get()));
  const PropertyList creation(H5Dget_create_plist(dataset.get()));
  if (!stored.valid() || !space.valid() || !creation.valid()) {
    throw ColumnError(name_, path, "a readable header", take_error_stack());
  }
  if (H5Tequal(stored.get(), type) <= 0) {
    throw ColumnError(name_, path, "the type of the schema", "another type");
  }
  if (H5Sget_simple_extent_ndims(space.get()) != 1) {
    throw ColumnError(name_, path, "one dimension",
                      std::to_string(H5Sget_simple_extent_ndims(space.get())));
  }
  if (H5Pget_layout(creation.get()) != H5D_CONTIGUOUS ||
      H5Pget_external_count(creation.get()) != 0) {
    throw ColumnError(name_, path, "contiguous layout in this file", "another layout");
  }
  hsize_t count = 0;
  H5Sget_simple_extent_dims(space.get(), &count, nullptr);
  const uint64_t width = H5Tget_size(type);
  if (count > bytes_ / width || H5Dget_storage_size(dataset.get()) != count * width) {
    throw ColumnError(name_, path, "as many bytes as its extent says",
                      std::to_string(H5Dget_storage_size(dataset.get())) + " bytes for " +
                          std::to_string(count) + " values");
  }
  return count;
}

template <class T>
std::vector<T> ColumnFileReader::read(const std::string& path) const {
  const Dataset dataset = open_column(path);
  std::vector<T> values(checked_count(path, dataset, stored_type<T>()));
  if (!values.empty() &&
      H5Dread(dataset.get(), stored_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
    throw ColumnError(name_, path, "readable values", take_error_stack());
  }
  return values;
}
template std::vector<uint8_t> ColumnFileReader::read(const std::string&) const;
template std::vector<int8_t> ColumnFileReader::read(const std::string&) const;
template std::vector<int64_t> ColumnFileReader::read(const std::string&) const;
template std::vector<double> ColumnFileReader::read(const std::string&) const;

std::string ColumnFileReader::stored_digest(const std::string& path) const {
  const std::string digest = read_text(open_column(path).get(), "sha256");
  H5Eclear2(H5E_DEFAULT);
  if (digest.empty()) throw ColumnError(name_, path, "an attribute sha256", "none");
  return digest;
}

std::vector<std::string> ColumnFileReader::leaves() const {
  std::vector<std::string> paths;
  LeafWalk walk{"", &paths};
  if (H5Literate(file_.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, &collect_leaf, &walk) < 0) {
    throw CorruptError(name_, "list of columns", "readable groups", take_error_stack());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

template <class T>
std::string column_digest(const std::vector<T>& values) {
  return sha256_hex({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
}
template std::string column_digest(const std::vector<uint8_t>&);
template std::string column_digest(const std::vector<int8_t>&);
template std::string column_digest(const std::vector<int64_t>&);
template std::string column_digest(const std::vector<double>&);

}  // namespace hone::data::hdf5
