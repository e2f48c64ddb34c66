/* The library that the extension module needs. */
long tally(long limit)
{
    long sum = 0;
    for (long number = 1; number <= limit; number++)
        sum += number;
    return sum;
}
