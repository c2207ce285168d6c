/* base/attr.h - the two compiler attributes the code uses. */
#ifndef WEIR_BASE_ATTR_H
#define WEIR_BASE_ATTR_H

/* The caller must look at the result. */
#define MUST_CHECK __attribute__((warn_unused_result))
/* Arguments fmt and following are checked like printf's. */
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

#endif
