#pragma once

namespace igpt {

/// Whether a sanitizer is built in: then memory and time are not what users see, and it wants to be loaded first.
constexpr bool sanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif

/// ThreadSanitizer makes everything ten times slower: what has to do with threads is enough.
constexpr bool thread_sanitized =
#ifdef __SANITIZE_THREAD__
    true;
#else
    false;
#endif

}  // namespace igpt
