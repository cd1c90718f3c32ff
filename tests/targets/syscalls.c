/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscalls NAME [SECONDS]     syscalls --list
 *
 * Makes one blocking system call that lasts so many seconds (2): by its own
 * timeout, or until a child does what it waits for. Says what it returned and
 * after how long, so that a run under an observer can be compared with one
 * without.
 */
#include "target.h"

#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

struct world {
	double seconds;
	struct timespec rel;  /* seconds from now */
	struct timespec abs;  /* the same on CLOCK_MONOTONIC */
	struct timeval tv;
	int ms;
	int pipe[2];
	int pair[2];
	int fd;
	int id;
	pid_t child;
	char dir[64], path[128];
	aio_context_t aio;
	struct shared {
		int futex;
		sem_t sem;
		pthread_mutex_t mutex;
		pthread_cond_t cond;
	} *shared;
	double left_s; /* what the call says is left, where it does; else -1 */
};

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(3);
}

static int check(int result, const char *what)
{
	if (result < 0)
		die(what);
	return result;
}

/* Starts a child that waits for so many seconds and then does `act`. It first
 * does `before` and tells the parent, where that is needed. */
static void later(struct world *w, void (*before)(struct world *), void (*act)(struct world *))
{
	int ready[2];
	char c;

	check(pipe(ready), "pipe");
	w->child = check(fork(), "fork");
	if (w->child == 0) {
		struct timespec until;

		if (before)
			before(w);
		write_all(ready[1], "r", 1);
		clock_gettime(CLOCK_MONOTONIC, &until);
		add_ns(&until, (long)(w->seconds * 1e9));
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
			;
		if (act)
			act(w);
		_exit(7);
	}
	check((int)read(ready[0], &c, 1), "read");
	close(ready[0]);
	close(ready[1]);
}

static void act_write_pipe(struct world *w)
{
	write_all(w->pipe[1], "x", 1);
}

static void act_read_pipe(struct world *w)
{
	char drop[65536];

	check((int)read(w->pipe[0], drop, sizeof(drop)), "read");
}

static void act_write_pair(struct world *w)
{
	write_all(w->pair[1], "x", 1);
}

static void act_signal(struct world *w)
{
	(void)w;
	kill(getppid(), SIGUSR1);
}

static void act_touch(struct world *w)
{
	close(check(open(w->path, O_CREAT | O_WRONLY, 0600), "open"));
}

static void on_usr1(int sig)
{
	(void)sig;
}

static void no_setup(struct world *w)
{
	(void)w;
}

/* Each case: what is prepared before the ready line, and the call. */

static void timed_signal_setup(struct world *w)
{
	sigset_t set;

	(void)w;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static void usr1_setup(struct world *w)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_usr1;
	sigaction(SIGUSR1, &action, NULL);
	later(w, NULL, act_signal);
}

static void blocked_usr1_setup(struct world *w)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	usr1_setup(w);
}

static void pipe_later_setup(struct world *w)
{
	later(w, NULL, act_write_pipe);
}

static void pair_later_setup(struct world *w)
{
	later(w, NULL, act_write_pair);
}

static long call_nanosleep(struct world *w)
{
	return nanosleep(&w->rel, NULL);
}

static long call_clock_nanosleep(struct world *w)
{
	int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &w->rel, NULL);

	errno = error;
	return error ? -1 : 0;
}

static long call_clock_nanosleep_abs(struct world *w)
{
	int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &w->abs, NULL);

	errno = error;
	return error ? -1 : 0;
}

static long call_poll(struct world *w)
{
	struct pollfd p = { w->pipe[0], POLLIN, 0 };

	return poll(&p, 1, w->ms);
}

static long call_poll_forever(struct world *w)
{
	struct pollfd p = { w->pipe[0], POLLIN, 0 };

	return poll(&p, 1, -1);
}

static long call_ppoll(struct world *w)
{
	struct pollfd p = { w->pipe[0], POLLIN, 0 };
	struct timespec left = w->rel;
	long ret = syscall(SYS_ppoll, &p, 1, &left, NULL, 8);

	w->left_s = (double)left.tv_sec + (double)left.tv_nsec * 1e-9;
	return ret;
}

static long call_select(struct world *w)
{
	struct timeval left = w->tv;
	fd_set set;
	long ret;

	FD_ZERO(&set);
	FD_SET(w->pipe[0], &set);
	ret = select(w->pipe[0] + 1, &set, NULL, NULL, &left);
	w->left_s = (double)left.tv_sec + (double)left.tv_usec * 1e-6;
	return ret;
}

static long call_pselect(struct world *w)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(w->pipe[0], &set);
	return pselect(w->pipe[0] + 1, &set, NULL, NULL, &w->rel, NULL);
}

static void epoll_setup(struct world *w)
{
	struct epoll_event event = { .events = EPOLLIN };

	w->fd = check(epoll_create1(0), "epoll_create1");
	check(epoll_ctl(w->fd, EPOLL_CTL_ADD, w->pipe[0], &event), "epoll_ctl");
}

static void epoll_later_setup(struct world *w)
{
	epoll_setup(w);
	pipe_later_setup(w);
}

static long call_epoll_wait(struct world *w)
{
	struct epoll_event event;

	return epoll_wait(w->fd, &event, 1, w->ms);
}

static long call_epoll_wait_forever(struct world *w)
{
	struct epoll_event event;

	return epoll_wait(w->fd, &event, 1, -1);
}

static long call_epoll_pwait(struct world *w)
{
	struct epoll_event event;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	return epoll_pwait(w->fd, &event, 1, w->ms, &mask);
}

static long call_epoll_pwait_forever(struct world *w)
{
	struct epoll_event event;

	return epoll_pwait(w->fd, &event, 1, -1, NULL);
}

static long call_epoll_pwait2(struct world *w)
{
	struct epoll_event event;

	return syscall(SYS_epoll_pwait2, w->fd, &event, 1, &w->rel, NULL, 8);
}

static void semaphore_setup(struct world *w)
{
	w->id = check(semget(IPC_PRIVATE, 1, 0600), "semget");
}

static void act_semop(struct world *w)
{
	struct sembuf up = { 0, 1, 0 };

	semop(w->id, &up, 1);
}

static void semaphore_later_setup(struct world *w)
{
	semaphore_setup(w);
	later(w, NULL, act_semop);
}

static long call_semtimedop(struct world *w)
{
	struct sembuf down = { 0, -1, 0 };
	long ret = semtimedop(w->id, &down, 1, &w->rel);
	int error = errno;

	semctl(w->id, 0, IPC_RMID);
	errno = error;
	return ret;
}

static long call_semop(struct world *w)
{
	struct sembuf down = { 0, -1, 0 };
	long ret = semop(w->id, &down, 1);
	int error = errno;

	semctl(w->id, 0, IPC_RMID);
	errno = error;
	return ret;
}

struct small_message {
	long type;
	char text[4000];
};

static void queue_setup(struct world *w)
{
	w->id = check(msgget(IPC_PRIVATE, 0600), "msgget");
}

static void act_msgsnd(struct world *w)
{
	struct small_message m = { 1, "hello" };

	msgsnd(w->id, &m, 5, 0);
}

static void act_msgrcv(struct world *w)
{
	struct small_message m;

	msgrcv(w->id, &m, sizeof(m.text), 0, 0);
}

static void msgrcv_setup(struct world *w)
{
	queue_setup(w);
	later(w, NULL, act_msgsnd);
}

static void msgsnd_setup(struct world *w)
{
	static struct small_message m = { 1, "" };

	queue_setup(w);
	while (msgsnd(w->id, &m, sizeof(m.text), IPC_NOWAIT) == 0)
		;
	later(w, NULL, act_msgrcv);
}

static long call_msgrcv(struct world *w)
{
	struct small_message m;
	long ret = msgrcv(w->id, &m, sizeof(m.text), 0, 0);
	int error = errno;

	msgctl(w->id, IPC_RMID, NULL);
	errno = error;
	return ret;
}

static long call_msgsnd(struct world *w)
{
	static struct small_message m = { 1, "" };
	long ret = msgsnd(w->id, &m, sizeof(m.text), 0);
	int error = errno;

	msgctl(w->id, IPC_RMID, NULL);
	errno = error;
	return ret;
}

static long call_sigtimedwait(struct world *w)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigtimedwait(&set, NULL, &w->rel);
}

static long call_sigwaitinfo(struct world *w)
{
	sigset_t set;

	(void)w;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return sigwaitinfo(&set, NULL);
}

static long call_sigsuspend(struct world *w)
{
	sigset_t none;

	(void)w;
	sigemptyset(&none);
	return sigsuspend(&none);
}

static long call_pause(struct world *w)
{
	(void)w;
	return pause();
}

static void aio_setup(struct world *w)
{
	check((int)syscall(SYS_io_setup, 4, &w->aio), "io_setup");
}

static long call_io_getevents(struct world *w)
{
	struct io_event event;

	return syscall(SYS_io_getevents, w->aio, 1, 1, &event, &w->rel);
}

static long call_io_pgetevents(struct world *w)
{
	struct io_event event;

	return syscall(SYS_io_pgetevents, w->aio, 1, 1, &event, &w->rel, NULL);
}

static void receive_timeout_setup(struct world *w)
{
	setsockopt(w->pair[0], SOL_SOCKET, SO_RCVTIMEO, &w->tv, sizeof(w->tv));
}

static long call_recv(struct world *w)
{
	char c;

	return recv(w->pair[0], &c, 1, 0);
}

static long call_recvmsg(struct world *w)
{
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	return recvmsg(w->pair[0], &message, 0);
}

static void send_timeout_setup(struct world *w)
{
	static char block[65536];

	while (send(w->pair[0], block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	while (send(w->pair[0], block, 1, MSG_DONTWAIT) > 0)
		;
	setsockopt(w->pair[0], SOL_SOCKET, SO_SNDTIMEO, &w->tv, sizeof(w->tv));
}

static long call_send(struct world *w)
{
	char c = 1;

	return send(w->pair[0], &c, 1, 0);
}

static struct sockaddr_un unix_address(struct world *w)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", w->path);
	return address;
}

static void listen_setup(struct world *w)
{
	struct sockaddr_un address = unix_address(w);

	w->fd = check(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
	check(bind(w->fd, (struct sockaddr *)&address, sizeof(address)), "bind");
	check(listen(w->fd, 0), "listen");
}

static void act_connect(struct world *w)
{
	struct sockaddr_un address = unix_address(w);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	check(connect(fd, (struct sockaddr *)&address, sizeof(address)), "connect");
}

static void act_accept(struct world *w)
{
	check(accept(w->fd, NULL, NULL), "accept");
}

static void accept_timeout_setup(struct world *w)
{
	listen_setup(w);
	setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &w->tv, sizeof(w->tv));
}

static void accept_later_setup(struct world *w)
{
	listen_setup(w);
	later(w, NULL, act_connect);
}

/* The backlog of a listener is filled; the next connect waits. */
static void connect_setup(struct world *w)
{
	struct sockaddr_un address = unix_address(w);
	int fd;

	listen_setup(w);
	do {
		fd = check(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
	} while (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	close(fd);
	later(w, NULL, act_accept);
}

static long call_accept(struct world *w)
{
	int fd = accept(w->fd, NULL, NULL);

	return fd < 0 ? fd : 0;
}

static long call_connect(struct world *w)
{
	struct sockaddr_un address = unix_address(w);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return connect(fd, (struct sockaddr *)&address, sizeof(address));
}

static long call_futex(struct world *w)
{
	return syscall(SYS_futex, &w->shared->futex, FUTEX_WAIT, 0, &w->rel, NULL, 0);
}

static long call_futex_bitset(struct world *w)
{
	return syscall(SYS_futex, &w->shared->futex, FUTEX_WAIT_BITSET, 0, &w->abs, NULL, -1);
}

static void act_futex(struct world *w)
{
	__atomic_store_n(&w->shared->futex, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &w->shared->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_later_setup(struct world *w)
{
	later(w, NULL, act_futex);
}

static long call_futex_forever(struct world *w)
{
	return syscall(SYS_futex, &w->shared->futex, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void act_sem_post(struct world *w)
{
	sem_post(&w->shared->sem);
}

static void sem_wait_setup(struct world *w)
{
	sem_init(&w->shared->sem, 1, 0);
	later(w, NULL, act_sem_post);
}

static long call_sem_wait(struct world *w)
{
	return sem_wait(&w->shared->sem);
}

static void sem_setup(struct world *w)
{
	sem_init(&w->shared->sem, 1, 0);
}

static long call_sem_timedwait(struct world *w)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	add_ns(&until, (long)(w->seconds * 1e9));
	return sem_timedwait(&w->shared->sem, &until);
}

static void cond_setup(struct world *w)
{
	pthread_mutex_init(&w->shared->mutex, NULL);
	pthread_cond_init(&w->shared->cond, NULL);
}

static long call_cond_timedwait(struct world *w)
{
	struct timespec until;
	int error;

	clock_gettime(CLOCK_REALTIME, &until);
	add_ns(&until, (long)(w->seconds * 1e9));
	pthread_mutex_lock(&w->shared->mutex);
	error = pthread_cond_timedwait(&w->shared->cond, &w->shared->mutex, &until);
	pthread_mutex_unlock(&w->shared->mutex);
	errno = error;
	return error ? -1 : 0;
}

static void inotify_setup(struct world *w)
{
	w->fd = check(inotify_init1(0), "inotify_init1");
	check(inotify_add_watch(w->fd, w->dir, IN_CREATE), "inotify_add_watch");
	later(w, NULL, act_touch);
}

static long call_read_inotify(struct world *w)
{
	char buf[512];

	return read(w->fd, buf, sizeof(buf));
}

static long call_read_pipe(struct world *w)
{
	char c;

	return read(w->pipe[0], &c, 1);
}

static void full_pipe_setup(struct world *w)
{
	static char block[4096];

	fcntl(w->pipe[1], F_SETFL, O_NONBLOCK);
	while (write(w->pipe[1], block, sizeof(block)) > 0)
		;
	fcntl(w->pipe[1], F_SETFL, 0);
	later(w, NULL, act_read_pipe);
}

static long call_write_pipe(struct world *w)
{
	return write(w->pipe[1], "x", 1);
}

static void wait_setup(struct world *w)
{
	later(w, NULL, NULL);
}

static long call_wait4(struct world *w)
{
	int status = 0;
	pid_t pid = wait4(w->child, &status, 0, NULL);

	return pid == w->child ? WEXITSTATUS(status) : -1;
}

static long call_waitid(struct world *w)
{
	siginfo_t info;

	return waitid(P_PID, (id_t)w->child, &info, WEXITED);
}

static void take_flock(struct world *w)
{
	int fd = check(open(w->path, O_RDWR | O_CREAT, 0600), "open");

	check(flock(fd, LOCK_EX), "flock");
}

static void flock_setup(struct world *w)
{
	later(w, take_flock, NULL);
	w->fd = check(open(w->path, O_RDWR), "open");
}

static long call_flock(struct world *w)
{
	return flock(w->fd, LOCK_EX);
}

static void take_record_lock(struct world *w)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	int fd = check(open(w->path, O_RDWR | O_CREAT, 0600), "open");

	check(fcntl(fd, F_SETLK, &lock), "fcntl");
}

static void record_lock_setup(struct world *w)
{
	later(w, take_record_lock, NULL);
	w->fd = check(open(w->path, O_RDWR), "open");
}

static long call_record_lock(struct world *w)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	return fcntl(w->fd, F_SETLKW, &lock);
}

static void timerfd_setup(struct world *w)
{
	struct itimerspec spec = { { 0, 0 }, w->rel };

	w->fd = check(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd_create");
	check(timerfd_settime(w->fd, 0, &spec, NULL), "timerfd_settime");
}

static long call_read_timerfd(struct world *w)
{
	uint64_t expirations = 0;

	return read(w->fd, &expirations, sizeof(expirations)) < 0 ? -1 : (long)expirations;
}

static const struct {
	const char *name;
	void (*setup)(struct world *w);
	long (*call)(struct world *w);
} cases[] = {
	{ "nanosleep", no_setup, call_nanosleep },
	{ "clock_nanosleep", no_setup, call_clock_nanosleep },
	{ "clock_nanosleep_abs", no_setup, call_clock_nanosleep_abs },
	{ "poll", no_setup, call_poll },
	{ "poll_forever", pipe_later_setup, call_poll_forever },
	{ "ppoll", no_setup, call_ppoll },
	{ "select", no_setup, call_select },
	{ "pselect", no_setup, call_pselect },
	{ "epoll_wait", epoll_setup, call_epoll_wait },
	{ "epoll_wait_forever", epoll_later_setup, call_epoll_wait_forever },
	{ "epoll_pwait", epoll_setup, call_epoll_pwait },
	{ "epoll_pwait_forever", epoll_later_setup, call_epoll_pwait_forever },
	{ "epoll_pwait2", epoll_setup, call_epoll_pwait2 },
	{ "semtimedop", semaphore_setup, call_semtimedop },
	{ "semop", semaphore_later_setup, call_semop },
	{ "msgrcv", msgrcv_setup, call_msgrcv },
	{ "msgsnd", msgsnd_setup, call_msgsnd },
	{ "sigtimedwait", timed_signal_setup, call_sigtimedwait },
	{ "sigwaitinfo", blocked_usr1_setup, call_sigwaitinfo },
	{ "sigsuspend", blocked_usr1_setup, call_sigsuspend },
	{ "pause", usr1_setup, call_pause },
	{ "io_getevents", aio_setup, call_io_getevents },
	{ "io_pgetevents", aio_setup, call_io_pgetevents },
	{ "recv_timeout", receive_timeout_setup, call_recv },
	{ "recvmsg_timeout", receive_timeout_setup, call_recvmsg },
	{ "recv", pair_later_setup, call_recv },
	{ "send_timeout", send_timeout_setup, call_send },
	{ "accept_timeout", accept_timeout_setup, call_accept },
	{ "accept", accept_later_setup, call_accept },
	{ "connect", connect_setup, call_connect },
	{ "futex_wait", no_setup, call_futex },
	{ "futex_wait_bitset", no_setup, call_futex_bitset },
	{ "futex_wait_forever", futex_later_setup, call_futex_forever },
	{ "sem_wait", sem_wait_setup, call_sem_wait },
	{ "sem_timedwait", sem_setup, call_sem_timedwait },
	{ "cond_timedwait", cond_setup, call_cond_timedwait },
	{ "read_inotify", inotify_setup, call_read_inotify },
	{ "read_pipe", pipe_later_setup, call_read_pipe },
	{ "write_pipe", full_pipe_setup, call_write_pipe },
	{ "read_timerfd", timerfd_setup, call_read_timerfd },
	{ "wait4", wait_setup, call_wait4 },
	{ "waitid", wait_setup, call_waitid },
	{ "flock", flock_setup, call_flock },
	{ "fcntl_setlkw", record_lock_setup, call_record_lock },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

static void prepare(struct world *w, double seconds)
{
	w->seconds = seconds;
	w->left_s = -1;
	w->ms = (int)(seconds * 1000);
	w->rel.tv_sec = (time_t)seconds;
	w->rel.tv_nsec = (long)((seconds - (double)w->rel.tv_sec) * 1e9);
	w->tv.tv_sec = w->rel.tv_sec;
	w->tv.tv_usec = w->rel.tv_nsec / 1000;
	w->shared = mmap(NULL, sizeof(*w->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(pipe(w->pipe), "pipe");
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, w->pair), "socketpair");
	snprintf(w->dir, sizeof(w->dir), "/tmp/heaptap-syscalls.XXXXXX");
	if (!mkdtemp(w->dir))
		die("mkdtemp");
	snprintf(w->path, sizeof(w->path), "%s/file", w->dir);
}

static void run(struct world *w, size_t index)
{
	double began;
	long ret;
	int error;

	cases[index].setup(w);
	say("{\"ready\": true, \"pid\": %d, \"name\": \"%s\"}\n", getpid(), cases[index].name);
	began = now_s();
	clock_gettime(CLOCK_MONOTONIC, &w->abs);
	add_ns(&w->abs, (long)(w->seconds * 1e9));
	errno = 0;
	ret = cases[index].call(w);
	error = ret < 0 ? errno : 0;
	say("{\"name\": \"%s\", \"ret\": %ld, \"errno\": %d, \"elapsed_s\": %.3f, "
	    "\"left_s\": %.3f}\n",
	    cases[index].name, ret, error, now_s() - began, w->left_s);
	if (w->child > 0) {
		kill(w->child, SIGKILL);
		waitpid(w->child, NULL, 0);
	}
	unlink(w->path);
	rmdir(w->dir);
}

int main(int argc, char **argv)
{
	static struct world w;

	if (argc < 2)
		return 2;
	for (size_t i = 0; i < CASES; i++) {
		if (strcmp(argv[1], "--list") == 0) {
			puts(cases[i].name);
		} else if (strcmp(argv[1], cases[i].name) == 0) {
			prepare(&w, argc > 2 ? atof(argv[2]) : 2);
			run(&w, i);
			return 0;
		}
	}
	return strcmp(argv[1], "--list") != 0;
}
