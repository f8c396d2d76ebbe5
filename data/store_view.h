#pragma once

// A store's records where they lie on disk: every sealed segment mapped and checked, nothing
// copied.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/hdf5/segment_view.h"
#include "data/store.h"

namespace hone::data {

/// One segment's rows by kind.
struct SegmentRows {
  explicit SegmentRows(hdf5::SegmentView segment);
  hdf5::SegmentView view;
  hdf5::Rows<Item> items;
  hdf5::Rows<Rating> ratings;
  hdf5::Rows<Comparison> comparisons;
  hdf5::Rows<Demonstration> demonstrations;
  hdf5::Rows<Answer> answers;
  hdf5::Rows<Review> reviews;
};

/// An item of a StoreView.
class ItemRef {
 public:
  ItemRef(const hdf5::Rows<Item>& rows, int64_t row) : rows_(&rows), row_(row) {}
  std::string_view id() const { return rows_->text(columns().id, row_); }
  std::string_view prompt() const { return rows_->text(columns().prompt, row_); }
  std::string_view text() const { return rows_->text(columns().text, row_); }
  std::string_view source() const { return rows_->text(columns().source, row_); }
  std::string_view policy_hash() const { return rows_->text(columns().policy_hash, row_); }
  bool prompt_is_messages() const {
    return rows_->value<uint8_t>(columns().prompt_is_messages, row_) != 0;
  }
  Split split() const { return static_cast<Split>(rows_->value<uint8_t>(columns().split, row_)); }

 private:
  struct Columns {
    std::size_t id, prompt, text, prompt_is_messages, split, source, policy_hash;
  };
  static const Columns& columns();
  const hdf5::Rows<Item>* rows_;
  int64_t row_;
};

class StoreView {
 public:
  /// Throws CorruptError as Store::read does.
  explicit StoreView(const Store& store, hdf5::Check check = hdf5::Check::kChecksums);
  /// One segment in memory, which holds all items.
  StoreView(std::string image, const std::string& name);

  const std::deque<SegmentRows>& segments() const { return segments_; }
  int64_t item_count() const { return item_count_; }
  /// Throws CorruptError when there is no such item.
  ItemRef item(int64_t index) const;

 private:
  void add(hdf5::SegmentView view);
  std::deque<SegmentRows> segments_;
  std::vector<int64_t> first_items_;  // of each segment
  int64_t item_count_ = 0;
};

}  // namespace hone::data
