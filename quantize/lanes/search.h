// Search the scales of sub-blocks, one sub-block per lane. Every lane executes the operations of a function in
// ggml-quants.c in the same order, with one rounding per operation (the build forbids contraction), so that the results
// are bit-exact wherever ggml was built without contraction.
//
// search_symmetric      make_qx_quants
// descend_symmetric     make_q3_quants
// search_above_zero     make_qp_quants
// search_values         quantize_row_iq4_nl_impl
// search_above_minimum  make_qkx2_quants, make_qkx3_quants (above_minimum.h)

#pragma once

#include "lanes.h"

namespace {

constexpr float NOTHING = 1e-15f;  // a sub-block of smaller weights is zero

// x ≈ scale × level + min.
struct Grid {
    Floats scale, min;
};

// The minimum and the maximum weight.
struct Extremes {
    Floats bottom, top;
};

template <int N>
inline Extremes extremes(const Floats* x) {
    Extremes e = {x[0], x[0]};
    for (int i = 1; i < N; ++i) {
        e.bottom = choose(x[i] < e.bottom, x[i], e.bottom);
        e.top = choose(x[i] > e.top, x[i], e.top);
    }
    return e;
}

// The weight of largest absolute value (absmax), with its sign; the first of equals.
template <int N>
inline Floats signed_absmax(const Floats* x) {
    Floats greatest = {}, absmax = {};
    for (int i = 0; i < N; ++i) {
        const Mask greater = magnitude(x[i]) > greatest;
        greatest = choose(greater, magnitude(x[i]), greatest);
        absmax = choose(greater, x[i], absmax);
    }
    return absmax;
}

// Fit of levels to x: sums of weight × x × level and of weight × level². The larger xl² / l2, the better.
struct Fit {
    Floats xl, l2;
};

struct Best {
    Floats scale, inverse;
};

// The inverse scale whose levels fit best, the first of equals, and the optimal scale of those levels. fits_of(i, fits)
// gives the fits of COUNT of them from number i on: of several, since the sums of one alone would wait for each other.
template <int COUNT, int N_INVERSES, class FitsOf>
inline Best best_of(const Floats (&inverses)[N_INVERSES], FitsOf fits_of) {
    Best best = {{}, inverses[0]};
    Floats most = {};
    for (int i = 0; i < N_INVERSES; i += COUNT) {
        Fit fits[COUNT];
        fits_of(i, fits);
        for (int k = 0; k < COUNT; ++k) {
            const Fit& fit = fits[k];
            const Mask first = broadcast(i + k == 0 ? -1 : 0);
            const Mask better = (fit.l2 > 0) & (first | (fit.xl * fit.xl > most * fit.l2));
            best = {choose(better, fit.xl / fit.l2, best.scale), choose(better, inverses[i + k], best.inverse)};
            most = choose(better, best.scale * fit.xl, most);
        }
    }
    return best;
}

// The fits of two inverse scales for levels -HALF … HALF - 1, of which none is less if they need no LOW limit; `wx` are
// weights × x.
template <int N, int HALF, bool LOW>
inline void fit_two(const Floats* x, const Floats* weights, const Floats* wx, const Floats* inverses, Fit* fits) {
    Fit sums[2] = {};
#pragma GCC unroll 2
    for (int i = 0; i < N; ++i)
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
            const Ints sum = least((Ints)(inverses[k] * x[i] + ROUNDER), broadcast(ROUNDER_BITS + HALF - 1));
            const Floats level = (Floats)(LOW ? greatest(sum, broadcast(ROUNDER_BITS - HALF)) : sum) - ROUNDER;
            sums[k].xl += wx[i] * level;
            sums[k].l2 += weights[i] * level * level;
        }
    for (int k = 0; k < 2; ++k) fits[k] = sums[k];
}

// Levels -HALF … HALF - 1 and no minimum: the best of 19 inverse scales, for which the absmax gets HALF, HALF - 0.9, …
// HALF + 0.9. Both are 0 where nothing is.
template <int N, int HALF>
Best search_symmetric(const Floats* x, const Floats* weights) {
    const Floats zero = {}, absmax = signed_absmax<N>(x);
    Floats inverses[20] = {-(float)HALF / absmax}, wx[N];
    for (int i = 1; i <= 18; ++i) inverses[i] = -(HALF + 0.1f * (i < 10 ? i - 10 : i - 9)) / absmax;
    inverses[19] = inverses[18];  // which is not better than itself
    for (int i = 0; i < N; ++i) wx[i] = weights[i] * x[i];
    constexpr int FIRST_LOW = 14;  // HALF + 0.5
    const Best best = best_of<2>(inverses, [&](int i, Fit* fits) {
        (i < FIRST_LOW ? fit_two<N, HALF, false> : fit_two<N, HALF, true>)(x, weights, wx, inverses + i, fits);
    });
    const Mask nothing = magnitude(absmax) < NOTHING;
    return {choose(nothing, zero, best.scale), choose(nothing, zero, best.inverse)};
}

// The levels of that inverse scale as 0 … 2 HALF - 1; 0 where nothing is.
template <int N, int HALF>
inline void symmetric_levels(const Floats* x, Floats inverse, Floats* levels) {
    for (int i = 0; i < N; ++i)
        levels[i] = choose(inverse == 0, Floats{}, nearest(inverse * x[i], -HALF, HALF - 1) + (float)HALF);
}

// Coordinate descent: move each level to its optimum given the others, in up to five rounds; returns the scale.
// With CHECK_OTHERS, none moves while all others are 0.
template <int N, bool CHECK_OTHERS>
Floats descend(const Floats* x, const Floats* weights, int low, int high, Floats* levels) {
    Fit fit = {};
    for (int i = 0; i < N; ++i) {
        fit.xl += weights[i] * x[i] * levels[i];
        fit.l2 += weights[i] * levels[i] * levels[i];
    }
    for (int round = 0; round < 5; ++round) {
        Mask moved = {};
        for (int i = 0; i < N; ++i) {
            const Floats wx = weights[i] * x[i];
            const Fit others = {fit.xl - wx * levels[i], fit.l2 - weights[i] * levels[i] * levels[i]};
            const Floats level = nearest_of_any(x[i] * others.l2 / others.xl, low, high);
            Mask other = (level != levels[i]) & (others.xl > 0);
            if (CHECK_OTHERS) other &= others.l2 > 0;
            if (!any(other)) continue;  // most often, after the first round
            const Fit tried = {others.xl + wx * level, others.l2 + weights[i] * level * level};
            const Mask better = other & (tried.l2 > 0) & (tried.xl * tried.xl * fit.l2 > fit.xl * fit.xl * tried.l2);
            levels[i] = choose(better, level, levels[i]);
            fit.xl = choose(better, tried.xl, fit.xl);
            fit.l2 = choose(better, tried.l2, fit.l2);
            moved |= better;
        }
        if (!any(moved)) break;
    }
    return choose(fit.l2 > 0, fit.xl / fit.l2, Floats{});
}

// Levels -HALF … HALF - 1 (given as 0 … 2 HALF - 1) and no minimum, from one inverse scale and a descent.
template <int N, int HALF>
Grid descend_symmetric(const Floats* x, const Floats* weights, Floats* levels) {
    const Floats zero = {}, absmax = signed_absmax<N>(x), inverse = -(float)HALF / absmax;
    for (int i = 0; i < N; ++i) levels[i] = nearest(inverse * x[i], -HALF, HALF - 1);
    const Floats scale = descend<N, false>(x, weights, -HALF, HALF - 1, levels);
    const Mask nothing = magnitude(absmax) < NOTHING;
    for (int i = 0; i < N; ++i) levels[i] = choose(nothing, zero, levels[i] + (float)HALF);
    return {choose(nothing, zero, scale), zero};
}

// Levels 0 … TOP of x that are not negative: the best of 9 inverse scales, and a descent.
template <int N, int TOP>
Floats search_above_zero(const Floats* x, const Floats* weights, Floats* levels) {
    Floats top = {};
    for (int i = 0; i < N; ++i) top = choose(x[i] > top, x[i], top);
    const auto error_of = [&](Floats inverse) {
        const Floats scale = 1 / inverse;
        Floats sum = {};
        for (int i = 0; i < N; ++i) {
            const Floats difference = x[i] - scale * nearest(inverse * x[i], 0, TOP);
            sum += weights[i] * difference * difference;
        }
        return sum;
    };
    Floats kept_inverse = (float)TOP / top, least = error_of(kept_inverse);
    for (int i = -4; i <= 4; ++i) {
        if (i == 0) continue;
        const Floats inverse = (0.1f * i + TOP) / top, error = error_of(inverse);
        const Mask better = error < least;
        kept_inverse = choose(better, inverse, kept_inverse);
        least = choose(better, error, least);
    }
    for (int i = 0; i < N; ++i) levels[i] = nearest(kept_inverse * x[i], 0, TOP);
    const Floats scale = descend<N, true>(x, weights, 0, TOP, levels);
    const Mask nothing = top < NOTHING;
    for (int i = 0; i < N; ++i) levels[i] = choose(nothing, Floats{}, levels[i]);
    return choose(nothing, Floats{}, scale);
}

// The sixteen values of IQ4_NL and IQ4_XS, and where the nearest changes from each to the next.
constexpr int N_VALUES = 16;
constexpr float VALUES[N_VALUES] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

constexpr float border(int i) { return (VALUES[i - 1] + VALUES[i]) / 2; }

// NaN gets the last value, as in ggml.
inline Ints nearest_index(Floats t) {
    Ints index = broadcast(N_VALUES - 1);
    for (int i = 1; i < N_VALUES; ++i) index += t < border(i);
    return index;
}

inline Floats nearest_value(Floats t) {
    Floats value = broadcast(VALUES[N_VALUES - 1]);
    for (int i = 1; i < N_VALUES; ++i) value -= choose(t < border(i), broadcast(VALUES[i] - VALUES[i - 1]), Floats{});
    return value;
}

// The best of 16 inverse scales for the nearest of the sixteen values.
template <int N>
Grid search_values(const Floats* x, const Floats* weights) {
    const Floats zero = {}, absmax = signed_absmax<N>(x);
    Floats inverses[16] = {1 / (-absmax / VALUES[0])};
    for (int i = 1; i <= 15; ++i) inverses[i] = (i - 8 + VALUES[0]) / absmax;
    const Best best = best_of<1>(inverses, [&](int number, Fit* fit) {
        *fit = Fit{};
        for (int i = 0; i < N; ++i) {
            const Floats value = nearest_value(inverses[number] * x[i]);
            fit->xl += weights[i] * value * x[i];
            fit->l2 += weights[i] * value * value;
        }
    });
    return {choose(magnitude(absmax) < NOTHING, zero, best.scale), zero};
}

}  // namespace
