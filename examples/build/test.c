#include "roman.h"

#include <stdio.h>
#include <string.h>

static const struct { int number; const char *expected; } cases[] = {
    {1, "I"},          {4, "IV"},       {9, "IX"},   {14, "XIV"},  {1987, "MCMLXXXVII"},
    {2024, "MMXXIV"},  {3999, "MMMCMXCIX"}, {3888, "MMMDCCCLXXXVIII"},
    {0, NULL},         {4000, NULL},
};

int main(void)
{
    int failed = 0, count = sizeof cases / sizeof *cases;

    for (int i = 0; i < count; i++) {
        char text[16];
        const char *got = roman(cases[i].number, text), *expected = cases[i].expected;

        if (got ? !expected || strcmp(got, expected) : expected != NULL) {
            printf("%d: %s instead of %s\n", cases[i].number, got ? got : "nothing", expected ? expected : "nothing");
            failed++;
        }
    }
    printf("%d of %d tests passed\n", count - failed, count);
    return failed != 0;
}
