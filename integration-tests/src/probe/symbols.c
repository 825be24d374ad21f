/* symbols LIBRARY=FUNCTION...: finds each library by name as a CUDA program would, through the
 * loader's own search, and looks the function up: "libcuda.so.1 cuInit /path/of/the/library". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        char *function = strchr(argv[i], '=');
        if (!function)
            return 2;
        *function++ = 0;
        void *library = dlopen(argv[i], RTLD_LAZY | RTLD_LOCAL);
        void *address = library ? dlsym(library, function) : NULL;
        Dl_info info;
        if (address && dladdr(address, &info))
            printf("%s %s %s\n", argv[i], function, info.dli_fname);
        else
            failed = 1, printf("%s %s: %s\n", argv[i], function, dlerror());
    }
    return failed;
}
