#pragma once

// A question given to one rater for a time.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/journal/asked.h"
#include "data/journal/question_row.h"

namespace hone::data {

struct Lease : Asked {
  Lease() = default;
  explicit Lease(const Asked& asked) : Asked(asked) {}
  std::string id;
  int64_t token = 0;
  bool live = true;
  int64_t expires_us = 0, dwell_ms = 0;
  bool ask_rationale = false;
  std::string draft;
};

std::optional<Lease> lease_by_id(sqlite::Database& database, const std::string& id);
/// The rater's leases, live or expired, oldest first.
std::vector<Lease> leases_of(sqlite::Database& database, const std::string& rater,
                             const std::string& project);

/// May an expired lease be live again? Its slot must be free.
bool slot_is_free(sqlite::Database& database, const Lease& lease);
/// Takes the slot, or gives it back at the end of its queue; `stamp` is the new place there.
void take_slot(sqlite::Database& database, const Lease& lease);
void free_slot(sqlite::Database& database, const Lease& lease, int64_t stamp);

void insert_lease(sqlite::Database& database, const Lease& lease);
/// Removes it, giving back its slot when it is live.
void drop_lease(sqlite::Database& database, const Lease& lease, int64_t stamp);

/// Ends what expired until now, at most `limit` leases, so that no call pays for a stampede.
void expire_leases(sqlite::Database& database, int64_t now_us, int64_t limit, int64_t& stamp);

}  // namespace hone::data
