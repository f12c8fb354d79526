// Panels of decoded weights: 256 weights of ROWS rows, one row in each lane; and their products with columns.
//
// Integers are exact; the sums of floats, one summand for each scale of activations, are in another order than ggml's.

#pragma once

#include "columns.h"

namespace {

// Of types with super-blocks: y += d·dx·(Σ scale·Σ level·x) − min·dx·(Σ min·Σ x), sums over sub-blocks. Where the minimum is
// the level's offset × scale, `mins` has −offset·scale and joins the first sum.
struct SuperHead {
    Ints factors[16];  // of sub-blocks' sums
    Ints mins[8];      // two sub-blocks' each, in 16 bits
    Floats d, min;
};

// Decoded weights: each vector has four of each row, unsigned.
struct Levels {
    Ints levels[64];

    // Four vectors from number `first` on: 16 weights.
    void put(int first, const Ints* four) {
        for (int i = 0; i < 4; ++i) levels[first + i] = four[i];
    }
};

struct SuperPanel : SuperHead, Levels {};

// Of types with blocks of 32: y += Σ d·dx·(Σ level·x − offset·Σ x) + min·s
struct FlatHead {
    Floats d[8], min[8];
};

struct FlatPanel : FlatHead, Levels {
    void clear() { memset(this, 0, sizeof *this); }
};

constexpr int DECODED_AT_ONCE = FEW_REGISTERS ? 8 : 1;  // pieces of a super-block
constexpr int PANELS = 2;                              // multiplied at once
constexpr int BLOCK_COLUMNS = FEW_REGISTERS ? 4 : 6;  // as many as there are registers for
constexpr int MOST_FEW_COLUMNS = FEW_REGISTERS ? 2 : 4;  // without panels, which are faster from there on

// Fours of levels below 2^BITS whose products are summed before they are multiplied with a scale, in 16 bits as many as
// fit: of signed levels one.
template <int BITS>
constexpr int SUMMED = BITS > JOINED_IN_16 ? SUPER / 4
                       : BITS == 8         ? 1
                                           : INT16_MAX / ((IN_PAIRS ? 2 : 4) * 127 * ((1 << BITS) - 1));

// Whether a type's minima are the offset of its levels × scale, or its own.
enum Mins { OFFSET, OWN };

template <int BITS>
inline Ints add_dot_of(Ints sum, Ints levels, Ints x) {
    return BITS == 8 ? add_dot_signed(sum, levels, x) : add_dot(sum, levels, x);
}

// Adds the products of FOURS times four levels, from the `first` four on.
template <int FOURS, int BITS, int N, class Panel, class Column>
[[gnu::always_inline]] inline void add_dots(const Panel* panels, const Column* x, int first, Ints (*dot)[PANELS]) {
#pragma GCC unroll 8
    for (int i = 0; i < FOURS; ++i) {
        const int four = first + i;
#pragma GCC unroll 6
        for (int n = 0; n < N; ++n) {
            const Ints same = broadcast_at(x[n].x + 4 * four);
#pragma GCC unroll 2
            for (int p = 0; p < PANELS; ++p)
                dot[n][p] = add_dot_of<BITS>(dot[n][p], panels[p].levels[four], same);
        }
    }
}

// y + the products of a super-block, whose sums of levels × factors are `total`, and a column.
template <int SUB, Mins MINS>
[[gnu::always_inline]] inline Floats add_super(Floats y, const SuperHead& head, const SuperColumn& x, Ints total) {
    const int16_t* sums = SUB == 16 ? x.sums : x.pair_sums;
    Ints mins = MINS == OFFSET ? total : Ints{};
#pragma GCC unroll 8
    for (int i = 0; i < SUPER / SUB / 2; ++i) mins = dot2(mins, head.mins[i], broadcast_at(sums + 2 * i));
    const Floats d = broadcast(x.d);
    if (MINS == OFFSET) return fma(head.d * d, to_floats(mins), y);
    return fma(head.d * d, to_floats(total), y) - head.min * d * to_floats(mins);
}

// What the offsets of a block's levels add to the sums of its products.
template <int LEVEL_OFFSET, Mins MINS>
[[gnu::always_inline]] inline Ints start_flat(const FlatColumn& x, int block) {
    return MINS == OFFSET ? broadcast(-LEVEL_OFFSET * x.sums[block]) : Ints{};
}

// y + the products of a block of 32, whose sums of levels less their offsets are `total`, and a column.
template <Mins MINS>
[[gnu::always_inline]] inline Floats add_flat(Floats y, const FlatHead& head, const FlatColumn& x, int block, Ints total) {
    const Floats d = head.d[block] * broadcast(x.d[block]), whole = to_floats(total);
    if (MINS == OFFSET) return fma(d, whole, y);
    // the two nearly cancel: their sum is rounded once, before it joins the others
    return y + fma(d, whole, head.min[block] * broadcast(x.s[block]));
}

template <int SUB, Mins MINS, int BITS, int N>
inline void multiply_super(const SuperPanel* panels, const SuperColumn* x, Floats (*y)[PANELS]) {
    constexpr int FOURS = SUB / 4, SUMS = FOURS < SUMMED<BITS> ? FOURS : SUMMED<BITS>;
    Ints total[N][PANELS] = {};
#pragma GCC unroll 1
    for (int sub = 0; sub < SUPER / SUB; ++sub) {
#pragma GCC unroll 8
        for (int four = 0; four < FOURS; four += SUMS) {
            Ints dot[N][PANELS] = {};
            add_dots<SUMS, BITS, N>(panels, x, sub * FOURS + four, dot);
#pragma GCC unroll 6
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
                for (int p = 0; p < PANELS; ++p) total[n][p] = join_dot<BITS>(total[n][p], dot[n][p], panels[p].factors[sub]);
        }
    }
#pragma GCC unroll 6
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
        for (int p = 0; p < PANELS; ++p) y[n][p] = add_super<SUB, MINS>(y[n][p], panels[p], x[n], total[n][p]);
}

// The same of a block of 32, which has a scale of its own.
template <int BITS, int N, class Panel, class Column>
[[gnu::always_inline]] inline void add_block(const Panel* panels, const Column* x, int first, Ints (*dot)[PANELS]) {
    if (!IN_PAIRS) return add_dots<8, BITS, N>(panels, x, first, dot);
    constexpr int SUMS = SUMMED<BITS> < 8 ? SUMMED<BITS> : 8;
#pragma GCC unroll 8
    for (int four = 0; four < 8; four += SUMS) {
        Ints sums[N][PANELS] = {};
        add_dots<SUMS, BITS, N>(panels, x, first + four, sums);
#pragma GCC unroll 6
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
            for (int p = 0; p < PANELS; ++p) dot[n][p] = join_dot<BITS>(dot[n][p], sums[n][p], factor_of(broadcast(1)));
    }
}

template <int LEVEL_OFFSET, Mins MINS, int BITS, int N>
inline void multiply_flat(const FlatPanel* panels, const FlatColumn* x, Floats (*y)[PANELS]) {
    Floats sums[N][PANELS];
    memcpy(sums, y, sizeof sums);
#pragma GCC unroll 1
    for (int block = 0; block < 8; ++block) {
        Ints dot[N][PANELS];
#pragma GCC unroll 6
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
            for (int p = 0; p < PANELS; ++p) dot[n][p] = start_flat<LEVEL_OFFSET, MINS>(x[n], block);
        add_block<BITS, N>(panels, x, 8 * block, dot);
#pragma GCC unroll 6
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
            for (int p = 0; p < PANELS; ++p)
                sums[n][p] = add_flat<MINS>(sums[n][p], panels[p], x[n], block, dot[n][p]);
    }
    memcpy(y, sums, sizeof sums);
}

// The forms of types: what is decoded to, and multiplied by N columns. WEIGHTS: decoded at once; BLOCK: weights of a block;
// SUB: of a sub-block; COLUMNS: multiplied at once; BITS: of levels, of which those of eight bits are signed; FETCH_FROM: the
// number of columns from which few gain by fetching the next super-blocks, of one where the scales, read first, lie behind
// long levels.
template <int SUB_, Mins MINS_, int BITS_>
struct SuperForm {
    using Panel = SuperPanel;
    using Column = SuperColumn;
    static constexpr int WEIGHTS = SUPER, BLOCK = SUPER, COLUMNS = BLOCK_COLUMNS, SUB = SUB_, BITS = BITS_;
    static constexpr int MOST_FEW = MOST_FEW_COLUMNS;
    static constexpr Mins MINS = MINS_;
    static constexpr int FETCH_FROM = 3;
    template <int N>
    static void multiply(const Panel* panels, const Column* x, Floats (*y)[PANELS]) {
        multiply_super<SUB, MINS, BITS, N>(panels, x, y);
    }
};

template <int LEVEL_OFFSET_, Mins MINS_, int BITS_>
struct FlatForm {
    using Panel = FlatPanel;
    using Column = FlatColumn;
    static constexpr int WEIGHTS = SUPER, BLOCK = 32, COLUMNS = BLOCK_COLUMNS, LEVEL_OFFSET = LEVEL_OFFSET_;
    static constexpr int BITS = BITS_, MOST_FEW = MOST_FEW_COLUMNS;
    static constexpr Mins MINS = MINS_;
    static constexpr int FETCH_FROM = MOST_FEW + 1;
    template <int N>
    static void multiply(const Panel* panels, const Column* x, Floats (*y)[PANELS]) {
        multiply_flat<LEVEL_OFFSET, MINS, BITS, N>(panels, x, y);
    }
};

}  // namespace
