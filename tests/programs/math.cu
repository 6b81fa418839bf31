// Mathematical functions against the host's wider ones, within the bounds in ULPs that the CUDA C++ Programming Guide
// (mathematical functions appendix) gives for the standard functions.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

#include <algorithm>
#include <functional>

template <typename T, typename F> __global__ void apply(const T *x, const T *y, T *out, int count, F function) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = function(x[i], y[i]);
}

struct Span {
    double low, high;
};

template <typename T, typename Wide, typename F>
void check(const char *name, double bound, Span x_span, Span y_span, F function, Wide (*host)(Wide, Wide)) {
    const int count = 4000;
    Random random;
    std::vector<T> x(count), y(count);
    for (int i = 0; i < count; i++) {
        x[i] = (T)random.between(x_span.low, x_span.high);
        y[i] = (T)random.between(y_span.low, y_span.high);
    }
    x[0] = (T)x_span.low, x[1] = (T)x_span.high;
    Device<T> device_x(x), device_y(y), out(count);
    apply<<<(count + 127) / 128, 128>>>(device_x.data, device_y.data, out.data, count, function);
    FINISH();
    std::vector<T> got = out.download();
    double worst = 0;
    for (int i = 0; i < count; i++) {
        double distance = ulps(got[i], host((Wide)x[i], (Wide)y[i]));
        REQUIRE(distance <= bound, "%s(%.17g, %.17g) is %.17g, expected %.17g: %g ULP, bound %g", name, (double)x[i],
                (double)y[i], (double)got[i], (double)host((Wide)x[i], (Wide)y[i]), distance, bound);
        worst = std::max(worst, distance);
    }
    std::printf("%-12s %.3f of %g ULP\n", name, worst, bound);
}

// A device function object and the host's counterpart from one expression each.
#define FUNCTION(Name, device_expression)                                                                      \
    struct Name {                                                                                              \
        template <typename T> __device__ T operator()(T x, T y) const {                                        \
            (void)y;                                                                                           \
            return device_expression;                                                                          \
        }                                                                                                      \
    };
#define FLOAT(name, bound, low, high, expression)                                                              \
    check<float, double>(#name, bound, {low, high}, {0, 1}, Float_##name(),                                    \
                         +[](double x, double) -> double { return expression; })
#define DOUBLE(name, bound, low, high, expression)                                                             \
    check<double, long double>(#name, bound, {low, high}, {0, 1}, Double_##name(),                             \
                               +[](long double x, long double) -> long double { return expression; })

FUNCTION(Float_sinf, sinf(x)) FUNCTION(Float_cosf, cosf(x)) FUNCTION(Float_tanf, tanf(x))
FUNCTION(Float_asinf, asinf(x)) FUNCTION(Float_acosf, acosf(x)) FUNCTION(Float_atanf, atanf(x))
FUNCTION(Float_sinhf, sinhf(x)) FUNCTION(Float_coshf, coshf(x)) FUNCTION(Float_tanhf, tanhf(x))
FUNCTION(Float_expf, expf(x)) FUNCTION(Float_exp2f, exp2f(x)) FUNCTION(Float_expm1f, expm1f(x))
FUNCTION(Float_logf, logf(x)) FUNCTION(Float_log2f, log2f(x)) FUNCTION(Float_log1pf, log1pf(x))
FUNCTION(Float_sqrtf, sqrtf(x)) FUNCTION(Float_rsqrtf, rsqrtf(x)) FUNCTION(Float_cbrtf, cbrtf(x))
FUNCTION(Float_erff, erff(x)) FUNCTION(Float_lgammaf, lgammaf(x)) FUNCTION(Float_recip, T(1) / x)
FUNCTION(Float_floorf, floorf(x)) FUNCTION(Float_rintf, rintf(x)) FUNCTION(Float_truncf, truncf(x))
FUNCTION(Float_powf, powf(x, y)) FUNCTION(Float_fmodf, fmodf(x, y)) FUNCTION(Float_atan2f, atan2f(x, y))
FUNCTION(Float_divide, x / y) FUNCTION(Float_hypotf, hypotf(x, y)) FUNCTION(Float_fdim, fdimf(x, y))
FUNCTION(Double_sin, sin(x)) FUNCTION(Double_cos, cos(x)) FUNCTION(Double_exp, exp(x)) FUNCTION(Double_log, log(x))
FUNCTION(Double_tanh, tanh(x)) FUNCTION(Double_atan, atan(x)) FUNCTION(Double_sqrt, sqrt(x))
FUNCTION(Double_rsqrt, rsqrt(x)) FUNCTION(Double_cbrt, cbrt(x)) FUNCTION(Double_erf, erf(x))
FUNCTION(Double_recip, T(1) / x) FUNCTION(Double_pow, pow(x, y)) FUNCTION(Double_divide, x / y)
FUNCTION(Double_fmod, fmod(x, y))

struct FastSin { __device__ float operator()(float x, float) const { return __sinf(x); } };
struct FastExp { __device__ float operator()(float x, float) const { return __expf(x); } };
struct FastLog { __device__ float operator()(float x, float) const { return __logf(x); } };
struct FastDivide { __device__ float operator()(float x, float y) const { return __fdividef(x, y); } };

// Bounds of the intrinsics are absolute or grow with the argument.
template <typename F> void check_fast(const char *name, Span span, F function, double (*host)(double, double), std::function<double(double)> allowed) {
    const int count = 3000;
    Random random;
    std::vector<float> x(count), y(count);
    for (int i = 0; i < count; i++) x[i] = (float)random.between(span.low, span.high), y[i] = (float)random.between(0.5, 90);
    Device<float> device_x(x), device_y(y), out(count);
    apply<<<(count + 127) / 128, 128>>>(device_x.data, device_y.data, out.data, count, function);
    FINISH();
    std::vector<float> got = out.download();
    for (int i = 0; i < count; i++) {
        double want = host(x[i], y[i]), error = std::fabs(got[i] - want);
        REQUIRE(error <= allowed(want) * 1.0001, "%s(%.9g, %.9g) is %.9g, expected %.9g", name, x[i], y[i], got[i], want);
    }
}

int main() {
    FLOAT(sinf, 2, -100, 100, std::sin(x));
    FLOAT(cosf, 2, -100, 100, std::cos(x));
    check<float, double>("sinf large", 2, {-1e7, 1e7}, {0, 1}, Float_sinf(), +[](double x, double) { return std::sin(x); });
    FLOAT(tanf, 4, -30, 30, std::tan(x));
    FLOAT(asinf, 2, -1, 1, std::asin(x));
    FLOAT(acosf, 2, -1, 1, std::acos(x));
    FLOAT(atanf, 2, -50, 50, std::atan(x));
    FLOAT(sinhf, 3, -20, 20, std::sinh(x));
    FLOAT(coshf, 2, -20, 20, std::cosh(x));
    FLOAT(tanhf, 2, -6, 6, std::tanh(x));
    FLOAT(expf, 2, -85, 85, std::exp(x));
    FLOAT(exp2f, 2, -120, 120, std::exp2(x));
    FLOAT(expm1f, 1, -10, 10, std::expm1(x));
    FLOAT(logf, 1, 1e-6, 1e6, std::log(x));
    FLOAT(log2f, 1, 1e-6, 1e6, std::log2(x));
    FLOAT(log1pf, 1, -0.9, 100, std::log1p(x));
    FLOAT(sqrtf, 0, 0, 1e10, std::sqrt(x));
    FLOAT(rsqrtf, 2, 1e-6, 1e6, 1 / std::sqrt(x));
    FLOAT(cbrtf, 1, -1e5, 1e5, std::cbrt(x));
    FLOAT(erff, 2, -4, 4, std::erf(x));
    FLOAT(lgammaf, 6, 3, 60, std::lgamma(x));
    FLOAT(recip, 0, 1e-3, 1e3, 1 / x);
    FLOAT(floorf, 0, -1e4, 1e4, std::floor(x));
    FLOAT(rintf, 0, -1e4, 1e4, std::nearbyint(x));
    FLOAT(truncf, 0, -1e4, 1e4, std::trunc(x));
    check<float, double>("powf", 4, {0.01, 50}, {-8, 8}, Float_powf(), +[](double x, double y) { return std::pow(x, y); });
    check<float, double>("fmodf", 0, {-1e4, 1e4}, {0.1, 50}, Float_fmodf(), +[](double x, double y) { return std::fmod(x, y); });
    check<float, double>("atan2f", 3, {-10, 10}, {-10, 10}, Float_atan2f(), +[](double x, double y) { return std::atan2(x, y); });
    check<float, double>("divide", 0, {-1e3, 1e3}, {1e-3, 1e3}, Float_divide(), +[](double x, double y) { return x / y; });
    check<float, double>("hypotf", 3, {-1e3, 1e3}, {-1e3, 1e3}, Float_hypotf(), +[](double x, double y) { return std::hypot(x, y); });
    check<float, double>("fdimf", 0, {-10, 10}, {-10, 10}, Float_fdim(), +[](double x, double y) { return std::fdim(x, y); });

    DOUBLE(sin, 2, -100, 100, sinl(x));
    DOUBLE(cos, 2, -100, 100, cosl(x));
    DOUBLE(exp, 1, -700, 700, expl(x));
    DOUBLE(log, 1, 1e-9, 1e9, logl(x));
    DOUBLE(tanh, 2, -6, 6, tanhl(x));
    DOUBLE(atan, 2, -50, 50, atanl(x));
    // One rounding of a host double, not two of a long double.
    check<double, double>("sqrt", 0, {0, 1e10}, {0, 1}, Double_sqrt(), +[](double x, double) { return std::sqrt(x); });
    DOUBLE(rsqrt, 1, 1e-6, 1e6, 1 / sqrtl(x));
    DOUBLE(cbrt, 1, -1e5, 1e5, cbrtl(x));
    DOUBLE(erf, 2, -4, 4, erfl(x));
    check<double, double>("recip", 0, {1e-3, 1e3}, {0, 1}, Double_recip(), +[](double x, double) { return 1 / x; });
    check<double, long double>("pow", 2, {0.01, 50}, {-8, 8}, Double_pow(), +[](long double x, long double y) { return powl(x, y); });
    check<double, double>("divide", 0, {-1e3, 1e3}, {1e-3, 1e3}, Double_divide(), +[](double x, double y) { return x / y; });
    check<double, long double>("fmod", 0, {-1e4, 1e4}, {0.1, 50}, Double_fmod(), +[](long double x, long double y) { return fmodl(x, y); });

    check_fast("__sinf", {-3.14159, 3.14159}, FastSin(), +[](double x, double) { return std::sin(x); },
               [](double) { return std::ldexp(1, -21) * 1.5; });
    check_fast("__expf", {-20, 20}, FastExp(), +[](double x, double) { return std::exp(x); }, [](double want) {
        return (2 + std::floor(std::fabs(1.173 * std::log(want)))) * std::ldexp(want, -23);
    });
    check_fast("__logf", {2.1, 1000}, FastLog(), +[](double x, double) { return std::log(x); },
               [](double want) { return 3 * std::ldexp(want, -22); });
    check_fast("__fdividef", {-100, 100}, FastDivide(), +[](double x, double y) { return x / y; },
               [](double want) { return 2 * std::ldexp(std::fabs(want), -23) + 1e-30; });
    return passed("math");
}
