// y + B·A, of few inner products: what an adapter of low rank adds to rows of weights.

#pragma once

#include "lanes.h"

namespace {

constexpr int TILE_ROWS = 4, TILE_VECTORS = 2, TILE_COLUMNS = TILE_VECTORS * WIDTH;

// The products of N rows with TILE_COLUMNS columns, in registers; each sum in the order of k.
template <int N>
inline void add_tile(float* y, const float* b, const float* a, int64_t rank, int64_t row) {
    Floats sums[N][TILE_VECTORS] = {};
    for (int64_t k = 0; k < rank; ++k, a += row) {
        Floats some[TILE_VECTORS];
        memcpy(some, a, sizeof some);
        for (int i = 0; i < N; ++i)
            for (int v = 0; v < TILE_VECTORS; ++v) sums[i][v] += b[i * rank + k] * some[v];
    }
    for (int i = 0; i < N; ++i) {
        Floats some[TILE_VECTORS];
        memcpy(some, y + i * row, sizeof some);
        for (int v = 0; v < TILE_VECTORS; ++v) some[v] += sums[i][v];
        memcpy(y + i * row, some, sizeof some);
    }
}

template <int N>
inline void add_rows(float* y, const float* b, const float* a, int64_t rank, int64_t row) {
    int64_t column = 0;
    for (; column + TILE_COLUMNS <= row; column += TILE_COLUMNS) add_tile<N>(y + column, b, a + column, rank, row);
    for (; column < row; ++column)
        for (int i = 0; i < N; ++i) {
            float sum = 0;
            for (int64_t k = 0; k < rank; ++k) sum += b[i * rank + k] * a[k * row + column];
            y[i * row + column] += sum;
        }
}

// (n, row) += (n, rank) · (rank, row), all one row behind the other.
inline void add_low_rank(float* y, const float* b, const float* a, int64_t n, int64_t rank, int64_t row) {
    for (; n >= TILE_ROWS; n -= TILE_ROWS, y += TILE_ROWS * row, b += TILE_ROWS * rank)
        add_rows<TILE_ROWS>(y, b, a, rank, row);
    for (; n > 0; --n, y += row, b += rank) add_rows<1>(y, b, a, rank, row);
}

}  // namespace
