#include "roman.h"

#include <stddef.h>
#include <string.h>

static const struct { int value; const char *letters; } numerals[] = {
    {1000, "M"}, {900, "CM"}, {500, "D"}, {400, "CD"}, {100, "C"}, {90, "XC"}, {50, "L"},
    {40, "XL"},  {10, "X"},   {9, "IX"},  {5, "V"},    {4, "IV"},  {1, "I"},
};

char *roman(int number, char text[16])
{
    if (number < 1 || number > 3999)
        return NULL;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof numerals / sizeof *numerals; i++)
        for (; number >= numerals[i].value; number -= numerals[i].value)
            strcat(text, numerals[i].letters);
    return text;
}
