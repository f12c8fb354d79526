// Exponential and error function, the same bytes in every variant. Coefficients are a Chebyshev fit of our own.

#pragma once

#include "../vectors.h"

namespace {

// c[0] + c[1] x + c[2] x² + …
template <int N>
inline Floats polynomial(const float (&c)[N], Floats x) {
    Floats sum = broadcast(c[N - 1]);
    for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, broadcast(c[i]));
    return sum;
}

// e^x of x of at most 0, within 2 units in the last place; 0 below -87, where denormals begin.
inline Floats exponential(Floats x) {
    constexpr float LOG2_E = 0x1.715476p0f, LN2_HIGH = 0x1.63p-1f, LN2_LOW = -0x1.bd0106p-13f;
    constexpr float TAIL[] = {0.5f, 0.16666576266f, 0.041666466743f, 0.0083631752059f, 0.0013933643922f};
    const Floats sum = fma(x, broadcast(LOG2_E), broadcast(ROUNDER)), n = sum - ROUNDER;  // n: the nearest integer
    Floats rest = fma(n, broadcast(-LN2_HIGH), x);
    rest = fma(n, broadcast(-LN2_LOW), rest);
    const Floats tail = fma(rest * rest, polynomial(TAIL, rest), rest);  // e^rest - 1
    const Floats power = (Floats)(((Ints)sum - ROUNDER_BITS + 127) << 23);
    return choose(x < -87.0f, Floats{}, fma(power, tail, power));
}

// erf(x), within 3 units in the last place: x P(x²) below 1, from there on 1 - e^-Q(|x|).
inline Floats error_function(Floats x) {
    constexpr float P[] = {1.1283792257f,     -0.37612637877f,    0.1128378287f,     -0.026865437627f,
                           0.0052210534923f, -0.0008484396385f, 0.00011268253729f, -9.6735902844e-06f};
    constexpr float Q[] = {-9.3514077889e-05f, 1.12913692f,         0.63408201933f,      0.10750796646f,
                           -0.0246474090962f,  0.004003494978f, -0.00040255217941f, 1.8586433725e-05f};
    const Floats size = magnitude(x), bounded = choose(size > 4.0f, broadcast(4.0f), size);
    const Floats large = 1.0f - exponential(-polynomial(Q, bounded));
    const Floats signed_large = (Floats)((Ints)large | ((Ints)x & INT32_MIN));
    return choose(size < 1.0f, x * polynomial(P, x * x), choose(x == x, signed_large, x));
}

}  // namespace
