// Search the scale and the minimum of sub-blocks, one sub-block per lane: make_qkx2_quants and make_qkx3_quants of
// ggml-quants.c. Several vectors are searched together: the sums of one alone would wait for one another, and so would
// what follows from them, try after try. Levels are rounded of two at once, for which there are registers.
//
// Most tries are worse than what was found before. The error of such a try follows from the sums of its levels up to
// rounding, and is not summed over the weights if it must be the greater one all the same (`may_be_better`).

#pragma once

#include "search.h"

namespace {

constexpr int PAIR = 2, GROUP = 4;

// A vector of sub-blocks of N weights: what was found, and what is tried.
template <int N>
struct Searched {
    const Floats *x, *weights;
    Floats* levels;  // of the last try
    Floats bottom, top, sum_w, sum_x, sum_x2;
    Floats underflow;  // bounds what underflow adds to an error; infinite where it may be more

    Grid kept;
    Floats least;                      // its error
    Floats kept_inverse, kept_origin;  // its levels are those nearest to kept_inverse × (x - kept_origin)

    Grid tried;
    Floats inverse, l, l2, lx;  // its levels' weighted sums: of themselves, of their squares, and of levels × x
    Mask solvable;

    // The first grid spans the weights, and 0.
    void begin(int top_level) {
        const Extremes ends = extremes<N>(x);
        bottom = ends.bottom;
        top = ends.top;
        sum_w = weights[0];
        sum_x = weights[0] * x[0];
        sum_x2 = sum_x * x[0];
#pragma GCC unroll 2
        for (int i = 1; i < N; ++i) {
            const Floats weighted = weights[i] * x[i];
            sum_w += weights[i];
            sum_x += weighted;
            sum_x2 += weighted * x[i];
        }
        const Mask ordinary = (sum_w > 0x1p-100f) & (sum_w < 0x1p60f);
        underflow = choose(ordinary, 0x1p-80f * (1 + (bottom * bottom + top * top)), broadcast(__builtin_inff()));
        // Where all weights are equal the inverse is infinite, the scale 0, and nothing is better.
        kept_origin = choose(bottom > 0, Floats{}, bottom);
        kept_inverse = inverse = (float)top_level / (top - kept_origin);
        tried = kept = {1 / inverse, kept_origin};
    }

    // The scale and the minimum, at most 0, that suit the rounded levels best.
    void solve() {
        const Floats determinant = sum_w * l2 - l * l;
        solvable = determinant > 0;
        tried = {(sum_w * lx - sum_x * l) / determinant, (l2 * sum_x - l * lx) / determinant};
        const Mask above = tried.min > 0;
        if (any(above)) tried = {choose(above, lx / l2, tried.scale), choose(above, Floats{}, tried.min)};
    }

    // Whether the sum of squared errors of `tried`, as weighted_errors finds it, may be less than the least in a lane.
    //
    // With u = 2⁻²⁴, s = scale, m = min: each sum of N ≤ 32 products of up to three factors is off by at most 33 u of
    // the sum of its absolute terms, so the quadratic form is by 40 u of those together, and these are at most
    // 3 × size, as 2ab ≤ a² + b². The differences that are squared are off by u (3 |s| level + 2 |m| + |x|), which
    // makes 13 u size, the squares and their sum by 36 u. Together less than 133 u size + 36 u estimate.
    bool may_be_better() const {
        const Floats s = tried.scale, m = tried.min, sl2 = s * l2, mw = m * sum_w;
        const Floats estimate = sum_x2 + s * (sl2 - 2 * lx) + m * (mw - 2 * sum_x + 2 * (s * l));
        const Floats size = sum_x2 + s * (sl2 + s * sum_w) + m * mw;
        const Floats rounding = 1e-5f * size + 4e-6f * estimate;  // 167 u, 67 u
        return any(solvable & ~(estimate - rounding - underflow > least));
    }

    void keep_if_better(Floats error) {
        const Mask better = solvable & (error < least);
        kept_inverse = choose(better, inverse, kept_inverse);
        kept_origin = choose(better, kept.min, kept_origin);
        kept = {choose(better, tried.scale, kept.scale), choose(better, tried.min, kept.min)};
        least = choose(better, error, least);
    }
};

// Levels and their sums, of inverse × (x - kept.min).
template <int N, int COUNT, class LevelOf>
inline void round_and_sum(Searched<N>* searched, LevelOf level_of) {
    Floats l[COUNT] = {}, l2[COUNT] = {}, lx[COUNT] = {};
#pragma GCC unroll 2
    for (int i = 0; i < N; ++i)
#pragma GCC unroll 2
        for (int k = 0; k < COUNT; ++k) {
            const Searched<N>& one = searched[k];
            const Floats x = one.x[i], level = level_of(one.inverse * (x - one.kept.min));
            const Floats weighted = one.weights[i] * level;
            one.levels[i] = level;
            l[k] += weighted;
            l2[k] += weighted * level;
            lx[k] += weighted * x;
        }
    for (int k = 0; k < COUNT; ++k) {
        searched[k].l = l[k];
        searched[k].l2 = l2[k];
        searched[k].lx = lx[k];
    }
}

// The same, of levels 0 … TOP. Those of the extremes tell how the others may be rounded, unless the minimum that was kept
// is above all weights and the inverse negative.
template <int N, int TOP>
inline void try_inverses(Searched<N>* pair) {
    Floats low[PAIR], high[PAIR];
    Mask ordered = Mask{} == 0, within = ordered, roundable = ordered;
    for (int k = 0; k < PAIR; ++k) {
        low[k] = pair[k].inverse * (pair[k].bottom - pair[k].kept.min);
        high[k] = pair[k].inverse * (pair[k].top - pair[k].kept.min);
        ordered &= pair[k].inverse > 0;
        within &= (low[k] >= -0.5f) & (high[k] < TOP + 0.5f);
    }
    if (every(ordered & within)) return round_and_sum<N, PAIR>(pair, [](Floats t) { return whole(t); });
    for (int k = 0; k < PAIR; ++k) roundable &= (low[k] >= -ROUNDABLE) & (high[k] <= ROUNDABLE);
    if (every(ordered & roundable)) return round_and_sum<N, PAIR>(pair, [](Floats t) { return nearest(t, 0, TOP); });
    round_and_sum<N, PAIR>(pair, [](Floats t) { return nearest_of_any(t, 0, TOP); });
}

enum class Error { SQUARED, ABSOLUTE };

// The weighted errors of COUNT vectors of what was tried last.
template <int N, Error ERROR, int COUNT>
inline void weighted_errors(Searched<N>* const* searched, Floats* errors) {
    Floats sums[COUNT] = {};
    Grid grids[COUNT];
    for (int k = 0; k < COUNT; ++k) grids[k] = searched[k]->tried;
#pragma GCC unroll 2
    for (int i = 0; i < N; ++i)
#pragma GCC unroll 4
        for (int k = 0; k < COUNT; ++k) {
            const Floats difference = grids[k].scale * searched[k]->levels[i] + grids[k].min - searched[k]->x[i];
            const Floats error = ERROR == Error::SQUARED ? difference * difference : magnitude(difference);
            sums[k] += searched[k]->weights[i] * error;
        }
    for (int k = 0; k < COUNT; ++k) errors[k] = sums[k];
}

// Levels 0 … TOP above a minimum of at most 0. Each try rounds with another inverse scale, solves for the scale and the
// minimum that suit the rounded levels best, and keeps them if their error is less; later tries start from the minimum
// that was kept.
template <int N, int TOP, Error ERROR>
void search_above_minimum(Searched<N>* group, float first, float step, int n_steps) {
    Searched<N>* promising[GROUP];
    Floats errors[GROUP];
    for (int k = 0; k < GROUP; ++k) {
        group[k].begin(TOP);
        promising[k] = group + k;
    }
    for (int k = 0; k < GROUP; k += PAIR) try_inverses<N, TOP>(group + k);
    weighted_errors<N, ERROR, GROUP>(promising, errors);
    for (int k = 0; k < GROUP; ++k) group[k].least = errors[k];

    for (int i = 0; i <= n_steps; ++i) {
        for (int k = 0; k < GROUP; ++k) group[k].inverse = (first + step * i + TOP) / (group[k].top - group[k].kept.min);
        for (int k = 0; k < GROUP; k += PAIR) try_inverses<N, TOP>(group + k);
        int n = 0;
        for (int k = 0; k < GROUP; ++k) {
            group[k].solve();
            promising[n] = group + k;
            n += ERROR != Error::SQUARED || group[k].may_be_better();
        }
        static_assert(GROUP == 4);
        if (n == 4) weighted_errors<N, ERROR, 4>(promising, errors);
        if (n == 3) weighted_errors<N, ERROR, 3>(promising, errors);
        if (n == 2) weighted_errors<N, ERROR, 2>(promising, errors);
        if (n == 1) weighted_errors<N, ERROR, 1>(promising, errors);
        for (int k = 0; k < n; ++k) promising[k]->keep_if_better(errors[k]);
    }
}

}  // namespace
