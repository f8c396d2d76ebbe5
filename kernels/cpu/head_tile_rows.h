#pragma once

// Passes over a tile of raw logits [rows, columns] that was cut out of a larger vocabulary, on the
// calling thread. A tile's sums are relative to its own largest logit, so tiles need not know of
// each other: head_tiles.cpp puts them together in a fixed order.

#include <cstdint>

namespace hone::kernels {

template <typename T>
struct HeadTile {
  T* logits;  // [rows, columns], row-contiguous
  int64_t rows, columns;
  T inverse_temperature;
};

/// Of one row of a tile, with t = (logit - top) / temperature.
template <typename T>
struct HeadTileSums {
  T top;            // its largest logit
  double sum;       // of e^t
  double weighted;  // of e^t * t
};

enum class HeadTileKeeps { kLogits, kExponentials };

/// sums [rows]. kExponentials leaves e^t in the tile.
template <typename T>
void head_tile_sums(const HeadTile<T>& tile, HeadTileKeeps keeps, HeadTileSums<T>* sums);

/// What d loss / d logits of a row takes; g and h are d loss / d log-probability and d loss / d
/// entropy over the temperature.
template <typename T>
struct HeadRowGradient {
  T g, h;
  T chosen, logprob, entropy;  // of the row's target; used where the tile keeps its logits
};

/// d loss / d logits in place. `targets` [rows] are columns of the tile, or lie outside it.
/// kExponentials: `scales` [rows] is what a row's exponentials are multiplied with (h is 0).
template <typename T>
void head_tile_gradient(const HeadTile<T>& tile, HeadTileKeeps keeps, const int64_t* targets,
                        const HeadRowGradient<T>* rows, const T* scales);

}  // namespace hone::kernels
