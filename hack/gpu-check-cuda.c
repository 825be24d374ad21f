/*
 * Adds two vectors on the first GPU and checks the sum, with the CUDA driver API alone: libcuda
 * is opened with dlopen, as programs find it in a container, and the kernel is PTX that the
 * driver compiles. Needs no CUDA toolkit, neither to build nor to run.
 *
 * Prints one line; exit status 0 if every element is right.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

typedef int CUresult;
typedef int CUdevice;
typedef void *CUcontext, *CUmodule, *CUfunction, *CUstream;
typedef unsigned long long CUdeviceptr;

static const char ptx[] =
	".version 6.0\n"
	".target sm_50\n"
	".address_size 64\n"
	".visible .entry vector_add(.param .u64 a, .param .u64 b, .param .u64 sum, .param .u32 count)\n"
	"{\n"
	"	.reg .pred %p;\n"
	"	.reg .b32 %i, %n, %block, %size, %thread;\n"
	"	.reg .b64 %offset, %pa, %pb, %ps;\n"
	"	.reg .f32 %x, %y, %z;\n"
	"	mov.u32 %block, %ctaid.x;\n"
	"	mov.u32 %size, %ntid.x;\n"
	"	mov.u32 %thread, %tid.x;\n"
	"	mad.lo.u32 %i, %block, %size, %thread;\n"
	"	ld.param.u32 %n, [count];\n"
	"	setp.ge.u32 %p, %i, %n;\n"
	"	@%p bra END;\n"
	"	mul.wide.u32 %offset, %i, 4;\n"
	"	ld.param.u64 %pa, [a];\n"
	"	ld.param.u64 %pb, [b];\n"
	"	ld.param.u64 %ps, [sum];\n"
	"	cvta.to.global.u64 %pa, %pa;\n"
	"	cvta.to.global.u64 %pb, %pb;\n"
	"	cvta.to.global.u64 %ps, %ps;\n"
	"	add.u64 %pa, %pa, %offset;\n"
	"	add.u64 %pb, %pb, %offset;\n"
	"	add.u64 %ps, %ps, %offset;\n"
	"	ld.global.f32 %x, [%pa];\n"
	"	ld.global.f32 %y, [%pb];\n"
	"	add.f32 %z, %x, %y;\n"
	"	st.global.f32 [%ps], %z;\n"
	"END:\n"
	"	ret;\n"
	"}\n";

enum { COUNT = 1 << 20, THREADS = 256 };

static void *cuda;
static CUresult (*get_error_name)(CUresult, const char **);

static void *symbol(const char *name)
{
	void *address = dlsym(cuda, name);
	if (!address) {
		printf("libcuda.so.1 has no %s\n", name);
		exit(1);
	}
	return address;
}

static void must(CUresult result, const char *what)
{
	const char *name = NULL;
	if (result == 0)
		return;
	if (get_error_name)
		get_error_name(result, &name);
	printf("%s: error %d %s\n", what, result, name ? name : "");
	exit(1);
}

int main(void)
{
	cuda = dlopen("libcuda.so.1", RTLD_NOW);
	if (!cuda) {
		printf("dlopen: %s\n", dlerror());
		return 1;
	}
	get_error_name = (CUresult(*)(CUresult, const char **))symbol("cuGetErrorName");
	CUresult (*init)(unsigned) = symbol("cuInit");
	CUresult (*driver_version)(int *) = symbol("cuDriverGetVersion");
	CUresult (*device_count)(int *) = symbol("cuDeviceGetCount");
	CUresult (*device_get)(CUdevice *, int) = symbol("cuDeviceGet");
	CUresult (*device_name)(char *, int, CUdevice) = symbol("cuDeviceGetName");
	CUresult (*context_create)(CUcontext *, unsigned, CUdevice) = symbol("cuCtxCreate_v2");
	CUresult (*module_load)(CUmodule *, const void *) = symbol("cuModuleLoadData");
	CUresult (*get_function)(CUfunction *, CUmodule, const char *) = symbol("cuModuleGetFunction");
	CUresult (*allocate)(CUdeviceptr *, size_t) = symbol("cuMemAlloc_v2");
	CUresult (*to_device)(CUdeviceptr, const void *, size_t) = symbol("cuMemcpyHtoD_v2");
	CUresult (*to_host)(void *, CUdeviceptr, size_t) = symbol("cuMemcpyDtoH_v2");
	CUresult (*launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
			   unsigned, CUstream, void **, void **) = symbol("cuLaunchKernel");
	CUresult (*synchronize)(void) = symbol("cuCtxSynchronize");
	CUresult (*context_destroy)(CUcontext) = symbol("cuCtxDestroy_v2");

	static float a[COUNT], b[COUNT], sum[COUNT];
	unsigned count = COUNT;
	CUdeviceptr pa, pb, ps;
	void *arguments[] = {&pa, &pb, &ps, &count};
	int version = 0, devices = 0;
	char name[128] = "";
	CUdevice device;
	CUcontext context;
	CUmodule module;
	CUfunction function;

	must(init(0), "cuInit");
	must(driver_version(&version), "cuDriverGetVersion");
	must(device_count(&devices), "cuDeviceGetCount");
	must(device_get(&device, 0), "cuDeviceGet");
	must(device_name(name, sizeof name, device), "cuDeviceGetName");
	must(context_create(&context, 0, device), "cuCtxCreate");
	must(module_load(&module, ptx), "cuModuleLoadData");
	must(get_function(&function, module, "vector_add"), "cuModuleGetFunction");
	for (int i = 0; i < COUNT; i++) {
		a[i] = (float)i;
		b[i] = 0.5f * (float)(COUNT - i);
	}
	must(allocate(&pa, sizeof a), "cuMemAlloc");
	must(allocate(&pb, sizeof b), "cuMemAlloc");
	must(allocate(&ps, sizeof sum), "cuMemAlloc");
	must(to_device(pa, a, sizeof a), "cuMemcpyHtoD");
	must(to_device(pb, b, sizeof b), "cuMemcpyHtoD");
	must(launch(function, (COUNT + THREADS - 1) / THREADS, 1, 1, THREADS, 1, 1, 0, NULL, arguments,
		    NULL), "cuLaunchKernel");
	must(synchronize(), "cuCtxSynchronize");
	must(to_host(sum, ps, sizeof sum), "cuMemcpyDtoH");
	for (int i = 0; i < COUNT; i++) {
		if (sum[i] != a[i] + b[i]) {
			printf("element %d is %f, not %f\n", i, (double)sum[i], (double)(a[i] + b[i]));
			return 1;
		}
	}
	must(context_destroy(context), "cuCtxDestroy");
	printf("%d sums right on %s, %d GPU(s) visible, CUDA %d.%d\n", COUNT, name, devices,
	       version / 1000, version % 1000 / 10);
	return 0;
}
