#include "data/store_view.h"

#include <algorithm>

#include "data/error.h"
#include "data/store_files.h"

namespace hone::data {

SegmentRows::SegmentRows(hdf5::SegmentView segment)
    : view(std::move(segment)),
      items(view.rows<Item>(view.header().items)),
      ratings(view.rows<Rating>(view.header().ratings)),
      comparisons(view.rows<Comparison>(view.header().comparisons)),
      demonstrations(view.rows<Demonstration>(view.header().demonstrations)),
      answers(view.rows<Answer>(view.header().answers)),
      reviews(view.rows<Review>(view.header().reviews)) {}

const ItemRef::Columns& ItemRef::columns() {
  using ItemRows = hdf5::Rows<Item>;
  static const Columns columns{
      ItemRows::column("id"),         ItemRows::column("prompt"),
      ItemRows::column("text"),       ItemRows::column("prompt_is_messages"),
      ItemRows::column("split"),      ItemRows::column("source"),
      ItemRows::column("policy_hash")};
  return columns;
}

StoreView::StoreView(const Store& store, hdf5::Check check) {
  for (const auto& path : segment_paths(store.directory())) add(hdf5::SegmentView(path, check));
}

StoreView::StoreView(std::string image, const std::string& name) {
  add(hdf5::SegmentView(std::move(image), name));
}

void StoreView::add(hdf5::SegmentView view) {
  segments_.emplace_back(std::move(view));
  const hdf5::SegmentView& added = segments_.back().view;
  if (added.header().items_before != item_count_) {
    throw CorruptError(added.name(), "attribute items_before", std::to_string(item_count_),
                       std::to_string(added.header().items_before));
  }
  first_items_.push_back(item_count_);
  item_count_ += added.header().items;
}

ItemRef StoreView::item(int64_t index) const {
  if (index < 0 || index >= item_count_) {
    throw CorruptError("store", "item", "a number below " + std::to_string(item_count_),
                       std::to_string(index));
  }
  const auto after = std::upper_bound(first_items_.begin(), first_items_.end(), index);
  const auto segment = static_cast<std::size_t>(after - first_items_.begin()) - 1;
  return {segments_[segment].items, index - first_items_[segment]};
}

}  // namespace hone::data
