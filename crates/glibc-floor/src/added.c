/* Functions of later C libraries, made of what glibc 2.17 has. Linked into what uses them, and seen by nobody else. */

extern int __xstat64(int version, const char *path, void *out);
extern int __fxstat64(int version, int file, void *out);
extern int __lxstat64(int version, const char *path, void *out);

/* The version of `struct stat` on x86-64 (bits/stat.h of glibc 2.17, _STAT_VER_LINUX). */
enum { STAT_VERSION = 1 };

/* Functions of their own since glibc 2.33. */
int stat64(const char *path, void *out) { return __xstat64(STAT_VERSION, path, out); }
int fstat64(int file, void *out) { return __fxstat64(STAT_VERSION, file, out); }
int lstat64(const char *path, void *out) { return __lxstat64(STAT_VERSION, path, out); }

/* Parts of every program that glibc links in from libc_nonshared.a, which we do not link to. */
extern void *__dso_handle __attribute__((visibility("hidden")));
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library);
extern int __cxa_atexit(void (*function)(void *), void *argument, void *library);

int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    return __register_atfork(prepare, parent, child, __dso_handle);
}

int atexit(void (*function)(void)) { return __cxa_atexit((void (*)(void *))function, 0, __dso_handle); }
