// A product of rows of weights and two or more columns: rows are decoded once, a panel of one super-block at a time, and
// multiplied with all of the columns while the panel is in the first cache.

#pragma once

#include "fetch.h"
#include "types.h"

namespace {

constexpr int STEP = PANELS * ROWS;  // rows that are decoded at once
constexpr int MOST_COLUMNS = 256;    // for which sums fit the first cache

// The last columns, fewer than are multiplied at once.
template <class Type, int N>
inline void multiply_rest(const typename Type::Panel* panels, const typename Type::Column* x, Floats (*y)[PANELS], int n) {
    if (n == N)
        Type::template multiply<N>(panels, x, y);
    else if constexpr (N > 1)
        multiply_rest<Type, N - 1>(panels, x, y, n);
}

template <class Type>
__attribute__((noinline)) void multiply_panels(const typename Type::Panel* panels, const typename Type::Column* x,
                                               Floats (*y)[PANELS], int n, Fetch fetch) {
    constexpr int AT_ONCE = Type::COLUMNS;
    const int64_t bytes = (fetch.end - fetch.at) / (n / AT_ONCE + 1) + 64;
    int i = 0;
    for (; i + AT_ONCE <= n; i += AT_ONCE) {
        fetch.some(bytes);
        Type::template multiply<AT_ONCE>(panels, x + i, y + i);
    }
    fetch.some(fetch.end - fetch.at);
    if (i < n) multiply_rest<Type, AT_ONCE - 1>(panels, x + i, y + i, n - i);
}

template <class Type>
void multiply(const products::Rows& rows) {
    const int64_t supers = (rows.row + Type::WEIGHTS - 1) / Type::WEIGHTS, super_bytes = bytes_of<Type>();
    const auto* columns = (const typename Type::Column*)rows.columns;
    alignas(64) typename Type::Panel panels[PANELS];
    alignas(64) Floats sums[MOST_COLUMNS][PANELS];
    for (int64_t first = rows.first; first < rows.end; first += STEP) {
        const int64_t next = first + STEP < rows.end ? first + STEP : rows.ahead;
        for (int64_t begin = 0; begin < rows.n_columns; begin += MOST_COLUMNS) {
            const int64_t left = rows.n_columns - begin;
            const int n = left < MOST_COLUMNS ? (int)left : MOST_COLUMNS;
            memset(sums, 0, n * sizeof *sums);
            for (int64_t b = 0; b < supers; ++b) {
                const bool last = begin + n == rows.n_columns;
                const Fetch fetch = last ? fetch_rows(rows, next, STEP, b, supers) : Fetch{nullptr, nullptr};
                for (int p = 0; p < PANELS; ++p) {
                    RowPointers at;
                    for (int i = 0; i < ROWS; ++i) {
                        const int64_t row = first + p * ROWS + i;
                        at.at[i] = rows.weights + (row < rows.n_rows ? row : rows.n_rows - 1) * rows.row_bytes;
                        at.at[i] += b * super_bytes;
                    }
                    Type::decode(at, weights_left<Type>(rows, b), panels[p]);
                }
                multiply_panels<Type>(panels, columns + b * rows.n_columns + begin, sums, n, fetch);
            }
            const int64_t valid = rows.end - first < STEP ? rows.end - first : STEP;
            for (int i = 0; i < n; ++i)
                memcpy(rows.y + (begin + i) * rows.n_rows + first, sums[i], valid * sizeof(float));
        }
    }
}

}  // namespace
