// Memory that is fetched before its turn.

#pragma once

#include "variant.h"

namespace {

// Lines of memory that are fetched bit by bit, between products: all at once they would fill the queue for them, and stall.
struct Fetch {
    const char *at, *end;

    void some(int64_t bytes) {
        const char* stop = end - at < bytes ? end : at + bytes;
        for (; at < stop; at += 64) __builtin_prefetch(at, 0, 2);
    }
};

// Bytes of the weights that are decoded at once.
template <class Type>
constexpr int64_t bytes_of() {
    return Type::WEIGHTS / Type::BLOCK * (int64_t)sizeof(typename Type::Block);
}

// How many of them super-block b of a row has.
template <class Type>
inline int weights_left(const products::Rows& rows, int64_t b) {
    const int64_t left = rows.row - b * Type::WEIGHTS;
    return left < Type::WEIGHTS ? (int)left : Type::WEIGHTS;
}

// Part `i` of `n` of `count` rows from `first` on, taken as one piece of memory; nothing if there are not so many.
inline Fetch fetch_rows(const products::Rows& rows, int64_t first, int64_t count, int64_t i, int64_t n) {
    if (first + count > rows.n_rows) return {nullptr, nullptr};
    const char* piece = (const char*)rows.weights + first * rows.row_bytes;
    const int64_t bytes = count * rows.row_bytes;
    return {piece + bytes * i / n, piece + bytes * (i + 1) / n};
}

}  // namespace
