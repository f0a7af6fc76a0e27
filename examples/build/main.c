#include "roman.h"

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words)
{
    char text[16];

    for (int i = 1; i < count; i++) {
        if (!roman(atoi(words[i]), text)) {
            fprintf(stderr, "roman: %s: not a number from 1 to 3999\n", words[i]);
            return 1;
        }
        puts(text);
    }
    return 0;
}
