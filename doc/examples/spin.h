/* spin.h: spins in the background, for callers of any language
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Needs nothing but the C library.
 */

#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

/* What is to be done. */
typedef struct
{
  uint64_t max_spins; /* how often to spin, or 0 for until it is cancelled */
} SpinArgs;

/* What was done. */
typedef struct
{
  uint64_t n_spins;
  double seconds;
} SpinResult;

/* A task that spins. */
typedef struct spin_handle SpinHandle;

/* What spin_poll() returns. */
enum
{
  SPIN_FAILED = -1,
  SPIN_PENDING = 0,
  SPIN_DONE = 1
};

SpinHandle *spin_spawn (const SpinArgs *args);
SpinResult *spin_wait (SpinHandle *handle);
int spin_poll (SpinHandle *handle);
void spin_cancel (SpinHandle *handle);
int spin_cancelled (SpinHandle *handle);
void spin_handle_destroy (SpinHandle *handle);
void spin_result_destroy (SpinResult *result);

const char *spin_last_error_message (void);
size_t spin_last_error_length (void);
const char *spin_last_error_domain (void);
int spin_last_error_code (void);
void spin_last_error_clear (void);

#ifdef __cplusplus
}
#endif
