// The equation on the CPU in one pass over memory. reference.product is the truth that this agrees with, bit for bit.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int LANES = 32;
constexpr int64_t BLOCK = 32 * LANES;
constexpr uint32_t ODD = 0x9E3779B9;

// Vectors of the compiler's own, so that speed does not hang on what its loop vectoriser recognises.
template <class T, int N>
struct Vector {
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using Vec = typename Vector<T, N>::type;

template <class V, class From>
inline V load(const From* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// A dtype as it lies in memory, the wider one that it is computed in, and the integers of that width.
struct Float32 {
    using Bits = float;
    using Wide = float;
    using Int = int32_t;
    static Vec<float, 8> read(const float* x) { return load<Vec<float, 8>>(x); }
    static void write(float* to, Vec<float, 8> x) { std::memcpy(to, &x, sizeof x); }
};

struct Float64 {
    using Bits = double;
    using Wide = double;
    using Int = int64_t;
    static Vec<double, 4> read(const double* x) { return load<Vec<double, 4>>(x); }
    static void write(double* to, Vec<double, 4> x) { std::memcpy(to, &x, sizeof x); }
};

struct BFloat16 {
    using Bits = uint16_t;
    using Wide = float;
    using Int = int32_t;
    static Vec<float, 8> read(const uint16_t* x) {
        return (Vec<float, 8>)(__builtin_convertvector(load<Vec<uint16_t, 8>>(x), Vec<uint32_t, 8>) << 16);
    }
    static void write(uint16_t* to, Vec<float, 8> x) {  // to nearest, ties to even; no product is a NaN with low bits
        const auto bits = (Vec<uint32_t, 8>)x;
        const auto top = __builtin_convertvector((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, Vec<uint16_t, 8>);
        std::memcpy(to, &top, sizeof top);
    }
};

inline uint32_t mix(uint32_t h) {
    h = (h ^ (h >> 16)) * 0x21F0AAAD;
    h = (h ^ (h >> 15)) * 0xD35A2D97;
    return h ^ (h >> 15);
}

// Bit b from the top of words[k] is the sign of element 32 * b + k of the block: 1 with probability level / 2^16.
// The first plane whose bit equals the digit of the level decides: few blocks need all 16.
inline void draw(uint32_t low, uint32_t high, uint32_t block, uint32_t level, uint32_t* words) {
    uint32_t first[LANES], open[LANES];
    for (uint32_t k = 0; k < LANES; k++) {
        first[k] = mix(((block * LANES + k) ^ low) + ODD);
        words[k] = level >> 16 ? ~0u : 0u;
        open[k] = ~0u;
    }
    if (level == 0 || level >> 16) return;
    const int last = 15 - __builtin_ctz(level);
    for (int plane = 0; plane <= last; plane++) {
        const uint32_t step = mix(plane) + ODD;
        const uint32_t digit = (level >> (15 - plane)) & 1 ? ~0u : 0u;
        uint32_t left = 0;
        for (int k = 0; k < LANES; k++) {
            const uint32_t word = first[k] + mix((first[k] ^ high) + step);
            words[k] |= open[k] & word & digit;
            open[k] &= word ^ digit;
            left |= open[k];
        }
        if (!left) return;
    }
}

// Element i in memory is of group i / run * channels + i / inner % channels; cpu.py fills this in.
struct Groups {
    int64_t samples, run, inner, channels, first, of_elements, of_random, share;
};

// Minus the strength of each group: that of its sample, with the group's own sign unless each element has one. Where
// the groups begin within a block of signs, so does the table.
template <class W, class Int, int N>
std::vector<W> strengths(const Groups& groups, uint32_t low, uint32_t high, double eps, uint32_t level) {
    const int64_t before = groups.of_elements ? 0 : groups.first * groups.channels % BLOCK;
    const int64_t blocks = (before + groups.samples * groups.channels + BLOCK - 1) / BLOCK;
    std::vector<W> table(blocks * BLOCK + 1);  // `point` may look at the next entry
    for (int64_t n = 0; n < groups.samples; n++) {
        W strength = W(eps);
        if (groups.of_random || groups.share >> 16 == 0) {
            const uint32_t first = mix((uint32_t(groups.first + n) ^ low) + ODD);
            const uint32_t random = first + mix((first ^ high) + mix(16) + ODD);
            const uint32_t shared = first + mix((first ^ high) + mix(17) + ODD);
            if (groups.of_random) strength *= W(random >> 8) * W(1.0 / (1 << 24));
            if (shared >> 16 >= uint32_t(groups.share)) strength = 0;
        }
        std::fill_n(table.data() + before + n * groups.channels, groups.channels, -strength);
    }
    if (groups.of_elements) return table;
    const int64_t block = groups.first * groups.channels / BLOCK;
    const Vec<Int, N> top = (Vec<Int, N>)-Vec<W, N>{};
    for (int64_t i = 0; i < blocks; i++) {
        uint32_t drawn[LANES];
        draw(low, high, uint32_t(block + i), level, drawn);
        Vec<int32_t, N> words[LANES / N];
        std::memcpy(words, drawn, sizeof drawn);
        for (W* row = table.data() + i * BLOCK; row < table.data() + (i + 1) * BLOCK; row += LANES) {
            for (int k = 0; k < LANES / N; k++) {
                const Vec<Int, N> minus = ~__builtin_convertvector(words[k], Vec<Int, N>) & top;
                const Vec<Int, N> less = load<Vec<Int, N>>(row + k * N) ^ minus;
                std::memcpy(row + k * N, &less, sizeof less);
                words[k] <<= 1;
            }
        }
    }
    table.erase(table.begin(), table.begin() + before);
    return table;
}

// What `table` says of elements begin .. begin + count.
template <class W>
void expand(const Groups& groups, const W* table, int64_t begin, int64_t count, W* to) {
    int64_t inside = begin % groups.run;
    table += begin / groups.run * groups.channels;
    for (int64_t length; count > 0; count -= length, to += length, inside = 0, table += groups.channels) {
        length = std::min(count, groups.run - inside);
        int64_t c = inside / groups.inner % groups.channels;
        int64_t end = groups.inner - inside % groups.inner;
        const int64_t period = std::min(length, groups.inner * groups.channels);
        if (groups.inner == 1) {
            const int64_t first = std::min(period, groups.channels - c);
            std::memcpy(to, table + c, first * sizeof *to);
            std::memcpy(to + first, table, (period - first) * sizeof *to);
        }
        for (int64_t done = groups.inner == 1 ? period : 0; done < period; done = end, end += groups.inner) {
            std::fill(to + done, to + std::min(end, period), table[c]);
            c = c + 1 == groups.channels ? 0 : c + 1;
        }
        for (int64_t done = period, more; done < length; done += more) {  // twice as many periods each time
            more = std::min(done, length - done);
            std::memcpy(to + done, to, more * sizeof *to);
        }
    }
}

// Write a value `count` times; up to N more elements are overwritten.
template <class W, int N>
void spread(W value, W* to, int64_t count) {
    const Vec<W, N> values = Vec<W, N>{} + value;
    for (int64_t k = 0; k < count; k += N) std::memcpy(to + k, &values, sizeof values);
}

// The same of a block where each entry stands for `inner` elements in a row, at most N * STORES, and no entry comes
// again; up to as many elements before and after are overwritten.
template <class W, int N, int STORES>
void repeat(int64_t inner, const W* table, int64_t begin, int64_t count, W* to) {
    table += begin / inner;
    for (int64_t done = -(begin % inner); done < count; done += inner, table++) {
        const Vec<W, N> value = Vec<W, N>{} + *table;
        for (int k = 0; k < STORES; k++) std::memcpy(to + done + k * N, &value, sizeof value);
    }
}

// Point at what `table` says of each row of a block, in the table itself or in `own`, rows that are alike at the same.
template <class W, int N>
void point(const Groups& groups, const W* table, int64_t begin, int64_t count, W* own, const W** rows) {
    const int64_t inner = groups.inner, channels = groups.channels;
    for (int b = 0; b < 32; b++) rows[b] = own + b * LANES;
    if (inner == 1 && groups.run % LANES == 0 && channels % LANES == 0) {
        int64_t inside = begin % groups.run, c = inside % channels;
        table += begin / groups.run * channels;
        for (int b = 0; b * LANES < count; b++, c += LANES, inside += LANES) {
            if (c == channels) c = 0;
            if (inside == groups.run) inside = 0, table += channels;
            rows[b] = table + c;
        }
    } else if (inner == 1 && LANES % channels == 0 && groups.run % BLOCK == 0) {
        expand(groups, table, begin, LANES, own);
        std::fill_n(rows, 32, own);
    } else if (inner * channels != groups.run) {
        expand(groups, table, begin, count, own);
    } else if (inner < LANES) {
        const auto fill = inner <= N ? repeat<W, N, 1> : inner <= 2 * N ? repeat<W, N, 2> : repeat<W, N, LANES / N>;
        fill(inner, table, begin, count, own);
    } else {
        int64_t left = inner - begin % inner;  // elements of the entry that `table` points at
        table += begin / inner;
        for (int64_t b = 0; b * LANES < count; own += LANES) {
            spread<W, N>(*table, own, LANES);
            rows[b++] = own;
            for (left -= LANES; left >= LANES && b < 32; left -= LANES) rows[b++] = own;
            if (left > 0) continue;
            table++;
            spread<W, N>(*table, own + LANES + left, -left);
            left += inner;
        }
    }
}

enum Through { NOTHING, RELU, LEAKY_RELU };

template <class T, Through THROUGH, bool GROUPED>
void multiply(const typename T::Bits* src, const typename T::Bits* ref, typename T::Bits* out, int64_t n,
              int64_t start, uint64_t seed, double eps, double slope, uint32_t level, int threads, const Groups* groups) {
    using Wide = typename T::Wide;
    constexpr int N = 32 / sizeof(Wide);
    using Values = Vec<Wide, N>;
    using Ints = Vec<typename T::Int, N>;
    const Values zero = {}, one = zero + Wide(1), shrink = zero + Wide(slope);
    const Ints top = (Ints)-zero;
    const Ints fixed = (Ints)(zero - Wide(eps));
    const uint32_t high = mix(uint32_t(seed >> 32) ^ mix(uint32_t(seed) + ODD));
    const uint32_t low = mix(uint32_t(seed) ^ high);
    std::vector<Wide> table;
    if (GROUPED) table = strengths<Wide, typename T::Int, N>(*groups, low, high, eps, level);
    if (GROUPED && !groups->of_elements) level = 1 << 16;  // the strengths have signs of their own

    // One row of a block; the top bits of the words are its signs.
    const auto row = [=](const typename T::Bits* y, const typename T::Bits* x, typename T::Bits* to,
                         const Vec<int32_t, N>* words, const Wide* own) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int k = 0; k < LANES / N; k++) {
            const Values at = T::read(x + k * N), value = T::read(y + k * N);
            const Ints plus = __builtin_convertvector(words[k], Ints);
            const Ints less = GROUPED ? load<Ints>(own + k * N) : fixed;
            Values result;
            if (THROUGH == RELU) {
                result = (at <= zero ? zero : value) * (one + (Values)(((plus & top) ^ less)));
            } else {
                const Ints same = ((plus ^ (Ints)at) & top) ^ less;  // eps * l(x), if x is not 0
                result = (THROUGH == NOTHING ? value : at <= zero ? value * shrink : value) *
                         (one + (Values)(same & (at != zero)));
            }
            T::write(to + k * N, result);
        }
    };
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) if (n >= 32 * BLOCK)
    for (int64_t block = 0; block < blocks; block++) {
        alignas(64) uint32_t drawn[LANES];
        draw(low, high, uint32_t(start / BLOCK + block), level, drawn);
        Vec<int32_t, N> words[LANES / N];
        std::memcpy(words, drawn, sizeof drawn);
        alignas(64) Wide buffer[GROUPED ? BLOCK + 2 * LANES : 1];
        const Wide* rows[32];
        if (GROUPED) {
            const int64_t first = block * BLOCK;
            point<Wide, N>(*groups, table.data(), first, std::min(BLOCK, n - first), buffer + LANES, rows);
        }
        const auto own = row;  // its constants in registers: what threads share is loaded again after every store
        for (int b = 0; b < 32; b++) {
            const int64_t begin = block * BLOCK + b * LANES, left = n - begin;
            if (left >= LANES) {
                own(src + begin, ref + begin, out + begin, words, GROUPED ? rows[b] : nullptr);
            } else if (left > 0) {
                typename T::Bits y[LANES] = {}, x[LANES] = {};
                std::memcpy(y, src + begin, left * sizeof *y);
                std::memcpy(x, ref + begin, left * sizeof *x);
                own(y, x, y, words, GROUPED ? rows[b] : nullptr);
                std::memcpy(out + begin, y, left * sizeof *y);
            }
#pragma GCC unroll 8
            for (int k = 0; k < LANES / N; k++) words[k] <<= 1;
        }
    }
}

template <class T, bool GROUPED>
auto choose(double slope) {
    if (slope == 0) return multiply<T, RELU, GROUPED>;
    return slope == 1 ? multiply<T, NOTHING, GROUPED> : multiply<T, LEAKY_RELU, GROUPED>;
}

}  // namespace

#define EXPORT(NAME, T)                                                                                           \
    extern "C" void NAME(const void* src, const void* ref, void* out, int64_t n, int64_t start, const void* seed, \
                         double eps, double slope, uint32_t level, int threads, const Groups* groups) {           \
        const auto run = groups ? choose<T, true>(slope) : choose<T, false>(slope);                               \
        run(static_cast<const T::Bits*>(src), static_cast<const T::Bits*>(ref), static_cast<T::Bits*>(out), n,    \
            start, *static_cast<const uint64_t*>(seed), eps, slope, level, threads, groups);                      \
    }

EXPORT(multiply_float32, Float32)
EXPORT(multiply_float64, Float64)
EXPORT(multiply_bfloat16, BFloat16)
