/* Writes a number from 1 to 3999 in Roman numerals, at most 15 letters and the
   ending zero. Returns text, or a null pointer for a number it cannot write. */
char *roman(int number, char text[16]);
