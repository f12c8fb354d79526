// Products with few columns: levels are multiplied as they are decoded, and no panel is laid out.

#pragma once

#include "fetch.h"
#include "types.h"

namespace {

// total + the products of 16 levels of each row, in four vectors, and of as many activations, × factor.
template <int BITS>
[[gnu::always_inline]] inline Ints join_four(Ints total, const Ints* four, const int8_t* x, Ints factor) {
    constexpr int SUMS = SUMMED<BITS> < 4 ? SUMMED<BITS> : 4;
#pragma GCC unroll 4
    for (int first = 0; first < 4; first += SUMS) {
        Ints sum = {};
#pragma GCC unroll 4
        for (int i = first; i < first + SUMS; ++i) sum = add_dot_of<BITS>(sum, four[i], broadcast_at(x + 4 * i));
        total = join_dot<BITS>(total, sum, factor);
    }
    return total;
}

// The same without a factor.
template <int BITS>
[[gnu::always_inline]] inline Ints join_four(Ints total, const Ints* four, const int8_t* x) {
    if (IN_PAIRS) return join_four<BITS>(total, four, x, factor_of(broadcast(1)));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) total = add_dot_of<BITS>(total, four[i], broadcast_at(x + 4 * i));
    return total;
}

// What takes the levels of a super-block of ROWS rows in place of a panel: the sums of their products with N columns.
template <class Type, int N>
struct SuperSums : SuperHead {
    const SuperColumn* x;
    Floats* y;
    Ints total[N] = {};

    SuperSums(const SuperColumn* columns, Floats* results) : x(columns), y(results) {}

    [[gnu::always_inline]] void put(int first, const Ints* four) {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n)
            total[n] = join_four<Type::BITS>(total[n], four, x[n].x + 4 * first, factors[first / (Type::SUB / 4)]);
    }

    [[gnu::always_inline]] void finish() {
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) y[n] = add_super<Type::SUB, Type::MINS>(y[n], *this, x[n], total[n]);
    }
};

// The same of eight blocks of 32, which join y one by one.
template <class Type, int N>
struct FlatSums : FlatHead {
    const FlatColumn* x;
    Floats* y;
    Ints total[N];

    FlatSums(const FlatColumn* columns, Floats* results) : x(columns), y(results) {}

    [[gnu::always_inline]] void put(int first, const Ints* four) {
        const int block = first / 8;
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            if (first % 8 == 0) total[n] = start_flat<Type::LEVEL_OFFSET, Type::MINS>(x[n], block);
            total[n] = join_four<Type::BITS>(total[n], four, x[n].x + 4 * first);
            if (first % 8 == 4) y[n] = add_flat<Type::MINS>(y[n], *this, x[n], block, total[n]);
        }
    }

    void clear() {}
    void finish() {}
};

template <class Type, int N>
SuperSums<Type, N> new_sums(const SuperColumn* columns, Floats* results) {
    return {columns, results};
}

template <class Type, int N>
FlatSums<Type, N> new_sums(const FlatColumn* columns, Floats* results) {
    return {columns, results};
}

// Part `i` of `each` of the beginnings of the streams that come next.
inline void fetch_beginnings(const products::Rows& rows, int64_t i, int64_t each) {
    if (rows.ahead + ROWS * each > rows.n_rows) return;
    for (int64_t lane = ROWS * i / each; lane < ROWS * (i + 1) / each; ++lane)
        for (int line = 0; line < 8; ++line)
            __builtin_prefetch(rows.weights + (rows.ahead + lane * each) * rows.row_bytes + 64 * line, 0, 2);
}

// The next super-block of each lane, in the order of its addresses: the processor's own prefetcher does not follow reads
// that begin at the end of a block.
template <class Type>
[[gnu::always_inline]] inline void fetch_next(const RowsInTurn& at) {
    constexpr int64_t bytes = bytes_of<Type>();
#pragma GCC unroll 1
    for (int lane = 0; lane < ROWS; ++lane) {
        const uintptr_t next = (uintptr_t)at[lane] + bytes;
#pragma GCC unroll 8
        for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch((const void*)(next + line), 0, 3);
    }
}

// Rows from `first` on, a lane each, of which each lane takes `each` that lie one behind the other: so many streams are read
// at the pace of memory without a hint, but for their beginnings, and from FETCH_FROM columns on.
template <class Type, int N>
void multiply_lanes(const products::Rows& rows, int64_t first, int64_t each, int lanes) {
    const int64_t supers = (rows.row + Type::WEIGHTS - 1) / Type::WEIGHTS;
    const auto* columns = (const typename Type::Column*)rows.columns;
    for (int64_t i = 0; i < each; ++i) {
        fetch_beginnings(rows, i, each);
        RowsInTurn at = {rows.weights + (first + i) * rows.row_bytes, lanes > 1 ? each * rows.row_bytes : 0};
        Floats y[N] = {};
        for (int64_t b = 0; b < supers; ++b, at.first += bytes_of<Type>()) {
            if constexpr (N >= Type::FETCH_FROM)
                if (lanes > 1) fetch_next<Type>(at);
            auto sums = new_sums<Type, N>(columns + b * N, y);
            Type::decode(at, weights_left<Type>(rows, b), sums);
            sums.finish();
        }
        for (int n = 0; n < N; ++n)
            for (int lane = 0; lane < lanes; ++lane) rows.y[n * rows.n_rows + first + lane * each + i] = y[n][lane];
    }
}

template <class Type, int N>
void multiply_columns(const products::Rows& rows) {
    const int64_t each = (rows.end - rows.first) / ROWS, rest = rows.first + ROWS * each;
    multiply_lanes<Type, N>(rows, rows.first, each, ROWS);
    multiply_lanes<Type, N>(rows, rest, rows.end - rest, 1);  // each is in all of the lanes
}

// At most N columns.
template <class Type, int N = Type::MOST_FEW>
void multiply_few(const products::Rows& rows) {
    if (rows.n_columns == N)
        multiply_columns<Type, N>(rows);
    else if constexpr (N > 1)
        multiply_few<Type, N - 1>(rows);
}

}  // namespace
