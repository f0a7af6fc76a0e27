/* Tries to leave a chroot: the second chroot, known since the 1990s.
 *
 * chroot(2) changes one thing: where this process's paths start, its root
 * directory. It neither changes the working directory nor closes descriptors.
 * The kernel stops `..` in exactly one place, at the root directory; a process
 * whose working directory lies outside its root never passes that place, and
 * climbs to the top of the mount tree.
 *
 * Exit status: 0 got out, 1 contained, 2 the attempt could not be made.
 */
#define _DEFAULT_SOURCE

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GOT_OUT = 0, CONTAINED = 1, NOT_TRIED = 2 };

static void must(int result, const char *call)
{
    if (result == 0)
        return;
    fprintf(stderr, "escape: %s: %s\n", call, strerror(errno));
    exit(NOT_TRIED);
}

/* Prints what `/` holds and returns which directory it is: a device and inode
 * number cannot be mistaken for another's, as names could. */
static struct stat look(const char *when)
{
    struct stat root;
    DIR *directory = opendir("/");

    must(stat("/", &root), "stat /");
    must(directory == NULL, "opendir /");
    printf("%-7s / is inode %lu of device %lx:", when, (unsigned long)root.st_ino, (unsigned long)root.st_dev);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            printf(" %s", entry->d_name);
    putchar('\n');
    closedir(directory);
    return root;
}

int main(void)
{
    struct stat before, after;

    must(chdir("/"), "chdir /");
    before = look("before");

    /* The root moves down into the hole. The working directory stays where it
     * is, now outside the root: the name `hole` is still found there, and a
     * root that has no name any more is as good as one that has. */
    must(mkdir("hole", 0700), "mkdir hole");
    int chrooted = chroot("hole"), why = errno;
    must(rmdir("hole"), "rmdir hole");
    errno = why;
    must(chrooted, "chroot hole");

    /* Nothing stops `..` on the way up. The top directory is its own parent,
     * so climbing too often does no harm. */
    for (int level = 0; level < 64; level++)
        must(chdir(".."), "chdir ..");

    /* Where the climb ended becomes the root. */
    must(chroot("."), "chroot .");

    after = look("after");
    if (before.st_dev == after.st_dev && before.st_ino == after.st_ino) {
        puts("contained: the way up ended at the jail's own root");
        return CONTAINED;
    }
    puts("GOT OUT: this is not the directory the jail began in");
    return GOT_OUT;
}
