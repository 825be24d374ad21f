/* What a container can do with device nodes, without a shell or a libc in the image.
 *
 *   nodes                 every device node below /dev: "c 195:255 666 0:0 /dev/nvidiactl"
 *   open PATH...          opens each for reading and writing: "/dev/nvidiactl ENXIO"
 *   make MAJOR:MINOR...   makes a character device in /dev, opens it, removes it: "195:1 EPERM";
 *                         "195:1 mknod EPERM" where it could not even be made
 *   read PATH...          "PATH errno" or the file's content
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char *name_of(int error) {
    const char *name = error ? strerrorname_np(error) : "ok";
    return name ? name : "?";
}

static const char *try_open(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return name_of(errno);
    close(fd);
    return "ok";
}

static void list(const char *dir) {
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096];
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (lstat(path, &st))
            continue;
        if (S_ISDIR(st.st_mode))
            list(path);
        else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
            printf("%c %u:%u %o %u:%u %s\n", S_ISCHR(st.st_mode) ? 'c' : 'b', major(st.st_rdev),
                   minor(st.st_rdev), st.st_mode & 07777, st.st_uid, st.st_gid, path);
    }
    closedir(d);
}

static void make(const char *numbers) {
    unsigned major_number, minor_number;
    const char *path = "/dev/made-by-probe";
    if (sscanf(numbers, "%u:%u", &major_number, &minor_number) != 2) {
        printf("%s is not MAJOR:MINOR\n", numbers);
        return;
    }
    if (mknod(path, S_IFCHR | 0666, makedev(major_number, minor_number))) {
        printf("%s mknod %s\n", numbers, name_of(errno));
        return;
    }
    printf("%s %s\n", numbers, try_open(path));
    unlink(path);
}

static void show(const char *path) {
    char buffer[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    if (fd < 0) {
        printf("%s %s\n", path, name_of(errno));
        return;
    }
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, (size_t)n, stdout);
    close(fd);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "nodes"))
        list("/dev");
    for (int i = 2; i < argc; i++) {
        if (!strcmp(what, "open"))
            printf("%s %s\n", argv[i], try_open(argv[i]));
        else if (!strcmp(what, "make"))
            make(argv[i]);
        else if (!strcmp(what, "read"))
            show(argv[i]);
    }
    return fflush(stdout) ? 1 : 0;
}
